import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { EnvironmentPool, promptEnvironment } from "../../../src/collector/environments/mod.ts";
import {
  type CollectorState,
  LLMCollector,
  type LLMCollectorOptions,
  PolicyVersion,
  ReplayBuffer,
} from "../../../src/collector/mod.ts";
import { StateError, ValidationError } from "../../../src/errors.ts";
import type { Message } from "../../../src/policy/message.ts";
import { readLines } from "../../../src/internal/lines.ts";
import { readRollout } from "../../../src/rollout_file/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { seeded } from "../../_support/seeded.ts";
import { countingEnvironment, fakePolicy } from "./_fakes.ts";

const TASKS = 60;
const program = fileURLToPath(new URL("./_killed_run.ts", import.meta.url));

type Way = "file" | "buffer";

/** Starts the run and kills it after so many of its words; tells whether it came to its end. */
async function runAndKill(folder: string, way: Way, words: number): Promise<boolean> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", program, folder, way],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const goOn = child.stdin.getWriter();
  let heard = 0;
  let last = "";
  for await (const line of readLines(child.stdout)) {
    last = line;
    if (line === "end" || heard++ > words) continue;
    await goOn.write(Uint8Array.of(10));
    // It runs again now, and cannot come further than to its next word.
    if (heard === words) child.kill("SIGKILL");
  }
  await goOn.close().catch(() => {});
  const { success } = await child.status;
  return success && last === "end";
}

/** The rows that a run left which was killed ten times and then came to its end. */
async function rowsOfKilledRun(
  folder: string,
  way: Way,
): Promise<{ question: string; group: number; member: number }[]> {
  const random = seeded(5);
  const tasks = Array.from({ length: TASKS }, (_, i) => JSON.stringify({ question: `task ${i}` }));
  await Deno.writeTextFile(join(folder, "tasks.jsonl"), tasks.join("\n"));
  for (let kills = 0; kills < 10; kills++) {
    assert.equal(await runAndKill(folder, way, 2 + Math.floor(random() * 12)), false);
  }
  assert.equal(await runAndKill(folder, way, Infinity), true);
  const questionOf = (messages: readonly Message[]) => String(messages[0]!.content);
  if (way === "file") {
    await using file = await readRollout(join(folder, "rows.jsonl"));
    return (await Array.fromAsync(file)).map(({ messages, group, member }) => ({
      question: questionOf(messages!),
      group,
      member,
    }));
  }
  const buffer = new ReplayBuffer({ capacity: 10_000 });
  const state = JSON.parse(await Deno.readTextFile(join(folder, "state.json")));
  await buffer.restore(join(folder, state.buffer));
  return buffer.sample(buffer.length).map(({ messages, group, member }) => ({
    question: questionOf(messages),
    group,
    member,
  }));
}

for (
  const [way, words] of [["file", "rows in a file"], ["buffer", "a saved replay buffer"]] as const
) {
  Deno.test(`a run with ${words} that is killed ten times at random has each task exactly once`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      const rows = await rowsOfKilledRun(folder, way);
      const counts = new Map<string, number>();
      for (const { question } of rows) counts.set(question, (counts.get(question) ?? 0) + 1);
      // Two epochs of groups of two.
      assert.equal(rows.length, TASKS * 2 * 2);
      assert.equal(
        new Set(rows.map(({ group, member }) => `${group}/${member}`)).size,
        rows.length,
      );
      assert.deepEqual([...counts.values()], Array.from({ length: TASKS }, () => 4));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("wherever a run stops, it and those after it give each dialog once and count all", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        groups: fc.integer({ min: 1, max: 20 }),
        groupSize: fc.integer({ min: 1, max: 3 }),
        overSample: fc.integer({ min: 0, max: 2 }),
        perBatch: fc.integer({ min: 1, max: 8 }),
        stops: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 4 }),
        failing: fc.uniqueArray(fc.nat(19)),
        refused: fc.uniqueArray(fc.nat(19)),
        onlyLast: fc.boolean(),
        seed: fc.integer(),
      }),
      async (
        { groups, groupSize, overSample, perBatch, stops, failing, refused, onlyLast, seed },
      ) => {
        const random = seeded(seed);
        const policy = fakePolicy(async ({ dialog }) => {
          const steps = Math.floor(random() * 20);
          for (let i = 0; i < steps; i++) await Promise.resolve();
          if (failing.includes(Math.floor(dialog / (groupSize + overSample)))) {
            throw new Error("policy fault");
          }
        });
        const options: LLMCollectorOptions = {
          dialogTurnsPerBatch: perBatch,
          totalDialogs: groups * groupSize,
          groupSize,
          overSample,
          incompleteGroups: "drop",
          admitGroup: (rows) => !refused.includes(rows[0]!.group),
          yieldOnlyLastSteps: onlyLast,
          maxStaleness: 1,
          onDialogError: "skip",
          maxConsecutiveFailures: 1000,
          clock: new FakeClock({ skipUpToMs: 5_000 }),
        };
        const given: number[] = [];
        const told = new Set<number>();
        let state: CollectorState | null = null;
        for (const stop of [...stops, Infinity]) {
          const pool = new EnvironmentPool(() => countingEnvironment(2), { size: 4 });
          await using collector = new LLMCollector(pool, { policy, ...options });
          if (state !== null) collector.restore(JSON.parse(JSON.stringify(state)));
          for (let batches = 0; batches < stop; batches++) {
            const batch = await collector.rollout();
            if (batch === null) break;
            for (const group of batch.groups()) {
              assert.equal(group.length, groupSize);
              given.push(group[0]!.rows[0]!.group);
            }
            for (const { dialog } of batch.failures) told.add(dialog);
            if (random() < 0.3) collector.incrementVersion();
          }
          state = collector.state();
          const { stats } = state;
          assert.equal(
            stats.dialogsStarted,
            stats.dialogsCompleted + stats.dialogsFailed + stats.dialogsAbandoned,
          );
          assert.equal(stats.turns, stats.rowsYielded + stats.rowsStale + stats.rowsUnused);
        }
        assert.equal(new Set(given).size, given.length);
        const stale = groups - given.length;
        const wanted = Array.from({ length: groups }, (_, i) => i).filter((group) =>
          !failing.includes(group) && !refused.includes(group)
        );
        assert.ok(given.every((group) => wanted.includes(group)));
        assert.ok(given.length === wanted.length || state!.stats.staleDropped > 0, `${stale}`);
        assert.deepEqual(state!.settled, { below: groups, above: [] });
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("versions go on where they were, with the names that servers had", () => {
  const versions = new PolicyVersion("int");
  versions.begin(["default"]);
  versions.increment("step-1");
  versions.increment("step-2");
  const other = new PolicyVersion("int");
  other.restore(JSON.parse(JSON.stringify(versions.state())));
  assert.deepEqual(other.history, versions.history);
  assert.deepEqual(other.find("step-1"), versions.find("step-1"));
  assert.equal(other.find("nobody"), undefined);
  assert.equal(other.increment("step-3"), 3);
  assert.throws(() => other.restore(versions.state()), ValidationError);
  assert.throws(() => new PolicyVersion("uuid").restore(versions.state()), ValidationError);
});

Deno.test("a state is refused where it cannot be gone on with", async () => {
  const make = () => promptEnvironment({ prompts: ["a"], reward: () => 1 });
  const collectorOf = (options: Partial<LLMCollectorOptions>) =>
    new LLMCollector(new EnvironmentPool(make, { size: 1 }), {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 1,
      totalDialogs: 4,
      ...options,
    });
  await using turns = collectorOf({});
  assert.throws(() => turns.state(), StateError);
  await using pairs = collectorOf({ groupSize: 2 });
  const state = pairs.state();
  await using single = collectorOf({ groupSize: 1 });
  assert.throws(() => single.restore(state), /2 members in a group, this collector 1/);
  for (
    const broken of [
      { ...state, schema: "other" },
      { ...state, settled: { below: -1, above: [] } },
      { ...state, settled: { below: 3, above: [2] } },
      { ...state, delivered: 0.5 },
      { ...state, stats: { ...state.stats, turns: "many" } },
      {},
    ]
  ) {
    assert.throws(() => pairs.restore(broken as unknown as CollectorState), ValidationError);
  }
  await pairs.rollout();
  assert.throws(() => pairs.restore(state), StateError);
});
