import assert from "node:assert/strict";
import { readLines } from "../../../src/internal/lines.ts";
import { treeOf } from "../../_support/processes.ts";
import { allGone, hasPython } from "./_tree.ts";

const owner = new URL("_owner.ts", import.meta.url).pathname;

/** Does something to a running tree's owner, guard or keeper; returns its processes. */
async function harm(
  who: "guard" | "keeper" | "both",
  signal: "SIGKILL" | "SIGSTOP",
  ownerDies: boolean,
): Promise<number[]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-run=python3", owner, "waits"],
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const pids: number[] = [];
  try {
    for await (const line of readLines(child.stdout)) {
      pids.push(...line.split(" ").map(Number));
      // The owner's only child is the guard, whose only child is the keeper.
      const [, guard, keeper] = await treeOf(child.pid);
      assert.ok(guard !== undefined && keeper !== undefined, "guard and keeper run");
      pids.push(guard, keeper);
      const chosen = { guard: [guard], keeper: [keeper], both: [keeper, guard] }[who];
      for (const pid of chosen) Deno.kill(pid, signal);
      if (ownerDies) child.kill("SIGKILL");
    }
    await child.status;
    await allGone(pids);
    return pids;
  } catch (error) {
    // What is left goes with its owner; otherwise it would wait for ever.
    child.kill("SIGKILL");
    throw error;
  }
}

Deno.test({
  name: "no process is left when those who keep the tree are harmed:",
  ignore: !await hasPython(),
  async fn(t) {
    // All at once: each spends its time waiting.
    const cases = [
      ["guard", "SIGKILL", false],
      ["keeper", "SIGKILL", false],
      ["guard", "SIGSTOP", true],
      ["keeper", "SIGSTOP", true],
      ["both", "SIGSTOP", true],
    ] as const;
    const runs = cases.map(([who, signal, ownerDies]) => harm(who, signal, ownerDies));
    await Promise.all(runs);
    for (const [i, [who, signal, ownerDies]] of cases.entries()) {
      await t.step(`${signal} for ${who}${ownerDies ? ", and the owner dies" : ""}`, async () => {
        assert.equal((await runs[i]!).length, 6, "the tree has run");
      });
    }
  },
});
