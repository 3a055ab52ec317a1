import assert from "node:assert/strict";
import { join } from "node:path";
import { ValidationError } from "../../../../src/errors.ts";
import { LocalTokenizer } from "../../../../src/policy/mod.ts";

const fixture = new URL("../../../fixtures/policy/byte_level/tokenizer.json", import.meta.url);

async function withFolder(
  files: Readonly<Record<string, unknown>>,
  run: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.copyFile(fixture, join(folder, "tokenizer.json"));
    for (const [name, value] of Object.entries(files)) {
      await Deno.writeTextFile(join(folder, name), JSON.stringify(value));
    }
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a chat template of a wrong type is an error, never a guess", async () => {
  for (const file of ["tokenizer_config.json", "chat_template.json"]) {
    for (const chat_template of [5, true, { a: 1 }, ["x"], [{ name: "default" }], [null]]) {
      await withFolder({ [file]: { chat_template } }, async (folder) => {
        await assert.rejects(LocalTokenizer.fromFolder(folder), (error) => {
          assert.ok(error instanceof ValidationError);
          assert.match(error.message, /chat_template .*must be a text, or a list of/);
          return true;
        });
      });
    }
    for (const chat_template of [null, "text", [{ name: "default", template: "text" }]]) {
      await withFolder({ [file]: { chat_template } }, async (folder) => {
        const tokenizer = await LocalTokenizer.fromFolder(folder);
        assert.equal(tokenizer.chatTemplate, chat_template === null ? null : "text");
      });
    }
  }
});
