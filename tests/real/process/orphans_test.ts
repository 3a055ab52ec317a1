import assert from "node:assert/strict";
import { readLines } from "../../../src/internal/lines.ts";
import { leftOf, treeOf } from "../../_support/processes.ts";
import { cpuEnv, modelPath, pythonOf } from "../../_support/real.ts";

const owner = new URL("_owner.ts", import.meta.url).pathname;

/** Runs an owner of a real server, with the documented permissions, up to a line of its output, kills it, and reports its tree. */
async function killAt(word: string, signal: Deno.Signal): Promise<number[]> {
  const python = pythonOf();
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      `--allow-run=${python}`,
      "--allow-net=127.0.0.1",
      owner,
      ...[python, modelPath("tiny"), cpuEnv.PYTHONPATH!],
    ],
    // With this set, as CUDA images have it, Deno refuses to start a child under a scoped flag.
    env: { LD_LIBRARY_PATH: "/nowhere" },
    stdout: "piped",
  }).spawn();
  let tree: number[] = [];
  for await (const line of readLines(child.stdout)) {
    if (tree.length > 0 || !line.startsWith(word)) continue;
    // Its own id included: it is killed, and everything below it must follow.
    tree = await treeOf(child.pid);
    child.kill(signal);
  }
  await child.status;
  return tree;
}

Deno.test("a real server is gone 10 s after kill -9 of the program that owns it", async () => {
  const tree = await killAt("ready", "SIGKILL");
  assert.ok(tree.length >= 5, `owner, keeper and three processes of SGLang ran: ${tree}`);
  assert.deepEqual(await leftOf(tree, { withinMs: 10_000 }), []);
});

Deno.test("a real server that still loads is gone 10 s after its owner is interrupted", async () => {
  const tree = await killAt("loading 4", "SIGINT");
  assert.ok(tree.length >= 3, `owner, keeper and SGLang ran: ${tree}`);
  assert.deepEqual(await leftOf(tree, { withinMs: 10_000 }), []);
});
