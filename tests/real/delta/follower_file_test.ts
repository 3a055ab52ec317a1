/** The follower as one file: built as its task builds it, and run where nothing else of this is. */
import assert from "node:assert/strict";
import { publishDelta } from "../../../src/delta/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { readLines } from "../../../src/internal/lines.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

async function deno(args: readonly string[], cwd?: string) {
  const command = new Deno.Command(Deno.execPath(), {
    args: [...args],
    ...(cwd === undefined ? {} : { cwd }),
    stdout: "piped",
    stderr: "piped",
  });
  const { success, stderr } = await command.output();
  return { success, told: new TextDecoder().decode(stderr) };
}

/**
 * The program: compiled, where the runtime that `deno compile` puts in can be had, else the one file
 * of JavaScript that would be put in.
 */
async function build(folder: string): Promise<{ path: string; args: string[] }> {
  const file = `${folder}/sglang-rl-follow.js`;
  const bundled = await deno(["bundle", "--platform=deno", "-o", file, "src/delta/main.ts"]);
  assert.ok(bundled.success, bundled.told);
  assert.ok((await Deno.stat(file)).size < 2e6);
  const output = `${folder}/sglang-rl-follow`;
  const compiled = await deno(["compile", "--no-config", "-A", "--output", output, file], folder);
  if (compiled.success) return { path: output, args: [] };
  assert.match(compiled.told, /denort|dl\.deno\.land|dns error|error sending request/i);
  const alone = ["--no-config", "--no-remote", "--no-npm", "--no-lock"];
  return { path: Deno.execPath(), args: ["run", "-A", ...alone, file] };
}

Deno.test("the follower of one file patches, serves the new version, and takes the whole file for a lost base", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await makeTinyCheckpoint(at("one"), { seed: 0, dtype: "float32" });
  await makeTinyCheckpoint(at("two"), { seed: 0, dtype: "float32" });
  await makeTinyCheckpoint(at("three"), { seed: 3, dtype: "float32" });
  const bytes = await Deno.readFile(at("two/model.safetensors"));
  bytes[bytes.length - 100]! ^= 1;
  await Deno.writeFile(at("two/model.safetensors"), bytes);
  await makeTinyCheckpoint(at("served"), { seed: 0, dtype: "float32" });
  await using server = await EmbeddedServer.start({ model: at("served") });
  await publishDelta(at("store"), at("one"), { version: "one" });
  const program = await build(folder.path);
  const child = new Deno.Command(program.path, {
    args: [
      ...program.args,
      ...["--store", at("store"), "--folder", at("served"), "--server", server.url],
      ...["--poll", "50"],
    ],
    cwd: folder.path,
    env: { DENO_DIR: at("empty") },
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const lines = readLines(child.stdout);
  try {
    const next = async () => JSON.parse((await lines.next()).value!);
    assert.equal((await next()).version, "one");
    await publishDelta(at("store"), at("two"), { version: "two" });
    const patched = await next();
    assert.deepEqual([patched.version, patched.patched, patched.whole], ["two", 1, 0]);
    assert.deepEqual(await Deno.readFile(at("served/model.safetensors")), bytes);
    assert.equal(server.stats.weightVersion, "two");
    // Somebody else writes to the file: it is nobody's base any more.
    await Deno.writeFile(at("served/model.safetensors"), bytes.toReversed());
    await publishDelta(at("store"), at("three"), { version: "three" });
    const whole = await next();
    assert.deepEqual([whole.version, whole.patched, whole.whole], ["three", 0, 1]);
    assert.equal(server.stats.weightVersion, "three");
  } finally {
    child.kill("SIGTERM");
    await child.status;
    await lines.return(undefined);
    await child.stdout.cancel().catch(() => {});
  }
});
