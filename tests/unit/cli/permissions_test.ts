/** The command line as a process, with exactly the permissions that docs/cli.md lists. */
import assert from "node:assert/strict";
import { startTiny, tinyCheckpoint } from "../embedded/_support.ts";

const program = new URL("../../../src/cli/mod.ts", import.meta.url).pathname;

async function process(
  permissions: readonly string[],
  args: readonly string[],
): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", "--quiet", ...permissions, program, ...args],
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("help needs no permission", async () => {
  const { code, out } = await process([], ["--help"]);
  assert.equal(code, 0);
  assert.match(out, /Usage: sglang-rl/);
});

Deno.test("status and generate need the servers' addresses and nothing else", async () => {
  await using server = await startTiny();
  const { host } = new URL(server.url);
  const allowed = [`--allow-net=${host}`];
  assert.equal((await process(allowed, ["status", "-s", server.url])).code, 0);
  const made = await process(allowed, ["generate", "Hello", "-s", server.url, "-m", "3"]);
  assert.equal(made.code, 0, made.err);
  for (const command of [["status"], ["generate", "Hello"]]) {
    const { code, err } = await process([], [...command, "-s", server.url]);
    assert.equal(code, 4);
    assert.ok(err.includes(`--allow-net=${host}`), err);
  }
});

Deno.test("sync needs the network of this machine and the checkpoint", async () => {
  await using server = await startTiny();
  const next = await tinyCheckpoint({ seed: 1 });
  const args = ["sync", next, "-s", server.url];
  const net = "--allow-net=127.0.0.1";
  const { code, err } = await process([net], args);
  assert.notEqual(code, 0);
  assert.ok(err.includes("--allow-read"), err);
  // The checkpoint that the server reports is read too: its names are compared before anything is sent.
  const done = await process([net, `--allow-read=${next},${await tinyCheckpoint()}`], args);
  assert.equal(done.code, 0, done.err);
});
