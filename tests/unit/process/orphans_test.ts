import assert from "node:assert/strict";
import { readLines } from "../../../src/internal/lines.ts";
import { allGone, hasPython } from "./_tree.ts";

const ways = [
  "its natural end",
  "Deno.exit",
  "an uncaught error",
  "the abort signal",
  "dispose",
  "SIGINT",
  "SIGTERM",
  "SIGKILL",
] as const;

const owner = new URL("_owner.ts", import.meta.url).pathname;

/** Runs an owner until it and its tree have ended, and reports the tree's processes. */
async function runOwner(way: string): Promise<readonly number[]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-run=python3", owner, way],
    env: { LD_LIBRARY_PATH: "/nowhere", NO_COLOR: "1" },
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const pids: number[] = [];
  for await (const line of readLines(child.stdout)) {
    pids.push(...line.split(" ").map(Number));
    if (way.startsWith("SIG")) child.kill(way as Deno.Signal);
  }
  await child.status;
  await allGone(pids);
  return pids;
}

Deno.test({
  name: "no process of a tree is left, whatever session it is in, when its owner ends by",
  ignore: !await hasPython(),
  async fn(t) {
    // All at once: each spends its time waiting.
    const runs = ways.map((way) => runOwner(way));
    await Promise.all(runs);
    for (const [i, way] of ways.entries()) {
      await t.step(way, async () => {
        assert.equal((await runs[i]!).length, 4, "the tree has run");
      });
    }
  },
});
