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
  // The checkpoint that the server reports is read too: its names are compared before anything is sent.
  const model = await tinyCheckpoint();
  for (
    const [allowed, missing] of [[[net], next], [[net, `--allow-read=${next}`], model]] as const
  ) {
    for (const more of [[], ["--dry-run"]]) {
      const { code, err } = await process(allowed, [...args, ...more]);
      assert.equal(code, 4, err);
      assert.ok(err.includes(`--allow-read=${missing}`), err);
    }
  }
  const unchecked = [...args, "--name-check", "off"];
  for (
    const [read, call] of [[`--allow-read=${next},${model}`, args], [
      `--allow-read=${next}`,
      unchecked,
    ]] as const
  ) {
    const done = await process([net, read], call);
    assert.equal(done.code, 0, done.err);
  }
});

/** The command line in a shell, so that pipes are real. */
async function shell(script: string): Promise<{ code: number; out: string; err: string }> {
  const command = `${Deno.execPath()} run -A --no-check --quiet ${program}`;
  const { code, stdout, stderr } = await new Deno.Command("bash", {
    args: ["-c", `set -o pipefail\nsglang_rl() { ${command} "$@"; }\n${script}`],
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("a reader that has enough ends a command quietly, also one that would go on", async () => {
  await using server = await startTiny();
  const watched = `sglang_rl status -s ${server.url} --watch --interval 0.1 --json | head -n 1`;
  const { code, out, err } = await shell(watched);
  assert.deepEqual({ code, err }, { code: 0, err: "" });
  assert.equal(JSON.parse(out).health, "ready");
  const help = await shell("sglang_rl --help | head -n 1");
  assert.deepEqual(help, { code: 0, out: "Usage: sglang-rl [options] [command]\n", err: "" });
});

Deno.test("signals end serve in order with their codes", async () => {
  for (const [name, expected] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--quiet", program, "serve", "--embedded"],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      if (text.startsWith("Ready")) child.kill(name);
    }
    assert.equal((await child.status).code, expected, name);
  }
});
