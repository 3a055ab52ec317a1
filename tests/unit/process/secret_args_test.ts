import assert from "node:assert/strict";
import fc from "fast-check";
import { moduleCommand } from "../../../src/process/mod.ts";

const value = fc.stringMatching(/^[a-z0-9/.:]{1,8}$/).filter((text) => !text.startsWith("-"));
const openFlag = fc.constantFrom("--port", "--model-path", "--max-total-tokens", "--worker-urls");
const secretFlag = fc.constantFrom(
  "--api-key",
  "--admin-api-key",
  "--ssl-keyfile-password",
  "--jwt-secret",
  "--hf-token",
  "--postgres-db-url",
);
const secret = fc.uuid();
const group = fc.oneof(
  fc.tuple(openFlag, fc.array(value, { maxLength: 3 })).map(([flag, values]) => ({
    args: [flag, ...values],
    secrets: [] as string[],
  })),
  fc.tuple(secretFlag, secret, fc.boolean()).map(([flag, text, isTied]) => ({
    args: isTied ? [`${flag}=${text}`] : [flag, text],
    secrets: [text],
  })),
  fc.tuple(openFlag, value, secret).map(([flag, first, text]) => ({
    args: [flag, first, `http://me:${text}@host`],
    secrets: [text],
  })),
);

Deno.test("whatever the arguments, no secret is among those that are seen, and none is lost", () => {
  fc.assert(fc.property(fc.array(group, { maxLength: 6 }), (groups) => {
    const args = groups.flatMap((one) => one.args);
    const secrets = groups.flatMap((one) => one.secrets);
    const command = moduleCommand("a.module", args);
    for (const text of secrets) assert.equal(command.args.join(" ").includes(text), false);
    for (const text of secrets) assert.ok(command.secrets.some((known) => known.includes(text)));
    const hidden: string[] = command.input === undefined ? [] : JSON.parse(command.input);
    assert.equal(command.input === undefined, secrets.length === 0);
    const open = command.args.slice(command.args.indexOf("a.module") + 1);
    assert.deepEqual([...hidden, ...open].sort(), [...args].sort());
  }));
});
