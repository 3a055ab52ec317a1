import assert from "node:assert/strict";
import fc from "fast-check";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { LLMCollector, type RolloutRow } from "../../../src/collector/mod.ts";
import { seeded } from "../../_support/seeded.ts";
import { countingEnvironment, fakePolicy } from "./_fakes.ts";

/** Lets others run, now and then. */
function mayYield(random: () => number): Promise<void> | void {
  if (random() < 0.2) return new Promise((resolve) => queueMicrotask(resolve));
}

Deno.test("10,000 dialogs with random faults: none is lost and none comes twice", async () => {
  const total = 10_000;
  const random = seeded(7);
  let faults = 0;
  const mayFail = (rate: number, what: string) => {
    if (random() >= rate) return;
    faults++;
    throw new Error(what);
  };
  const turnsOf = (dialog: number) => 1 + dialog % 3;
  const pool = new EnvironmentPool((index) => {
    let turns = 0;
    return {
      reset: async ({ dialog }) => {
        await mayYield(random);
        mayFail(0.01, `reset fault at ${index}`);
        turns = turnsOf(dialog);
        return { messages: [{ role: "user", content: String(dialog) }] };
      },
      step: async ({ turn }) => {
        await mayYield(random);
        mayFail(0.01, `step fault at ${index}`);
        return { reward: 1, done: turn + 1 === turns };
      },
    };
  }, { size: 64, maxConcurrency: 16 });
  let atOnce = 0;
  let mostAtOnce = 0;
  const policy = fakePolicy(async () => {
    mostAtOnce = Math.max(mostAtOnce, ++atOnce);
    for (let i = 0; i < 20; i++) await Promise.resolve();
    atOnce--;
    mayFail(0.02, "policy fault");
  });
  await using collector = new LLMCollector(pool, {
    policy,
    dialogTurnsPerBatch: 500,
    totalDialogs: total,
    yieldCompletedTrajectories: true,
    dialogRetries: 50,
    // Retries pause in real time; the faults here need none.
    clock: { now: () => 0, schedule: (delayMs, run) => instantly(delayMs, run) },
  });

  const turns = new Map<number, number[]>();
  for await (const batch of collector) {
    for (const { dialog, rows } of batch.trajectories()) {
      assert.equal(turns.has(dialog), false, `dialog ${dialog} came twice`);
      turns.set(dialog, rows.map((row) => row.turn));
      assert.deepEqual(rows.map((row) => row.responseIds[0]), rows.map(() => dialog));
    }
  }
  assert.equal(turns.size, total);
  for (const [dialog, seen] of turns) {
    assert.deepEqual(seen, Array.from({ length: turnsOf(dialog) }, (_, turn) => turn));
  }
  const { dialogsStarted, dialogsCompleted, dialogsFailed, retries } = collector.stats;
  assert.deepEqual([dialogsStarted, dialogsCompleted, dialogsFailed], [total, total, 0]);
  assert.equal(retries, faults);
  assert.ok(faults > 500 && mostAtOnce > 16 && mostAtOnce <= 64);
});

/** Deadlines never come; pauses end at once. */
function instantly(delayMs: number, run: () => void): () => void {
  if (delayMs <= 2_000) queueMicrotask(run);
  return () => {};
}

Deno.test("whatever the sizes, every dialog ends once: collected, failed or abandoned", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        size: fc.integer({ min: 1, max: 6 }),
        perBatch: fc.integer({ min: 1, max: 12 }),
        dialogs: fc.integer({ min: 1, max: 25 }),
        turns: fc.integer({ min: 1, max: 4 }),
        pooled: fc.boolean(),
        mode: fc.constantFrom("steps", "trajectories", "last"),
        prefetchBatches: fc.integer({ min: 0, max: 3 }),
        failing: fc.uniqueArray(fc.integer({ min: 0, max: 24 }), { maxLength: 5 }),
        seed: fc.integer(),
      }),
      async ({ size, perBatch, dialogs, turns, pooled, mode, prefetchBatches, failing, seed }) => {
        const random = seeded(seed);
        const policy = fakePolicy(async ({ dialog, turn }) => {
          await mayYield(random);
          if (failing.includes(dialog) && turn === turns - 1) throw new Error("policy fault");
        });
        const make = () => countingEnvironment(turns);
        await using collector = new LLMCollector(
          pooled ? new EnvironmentPool(make, { size }) : Array.from({ length: size }, make),
          {
            policy,
            dialogTurnsPerBatch: perBatch,
            totalDialogs: dialogs,
            yieldCompletedTrajectories: mode !== "steps",
            yieldOnlyLastSteps: mode === "last",
            prefetchBatches,
            onDialogError: "skip",
          },
        );
        const rows: RolloutRow[] = [];
        const failed: number[] = [];
        for await (const batch of collector) {
          rows.push(...batch.rows);
          failed.push(...batch.failures.map((failure) => failure.dialog));
        }
        const expectedFailures = failing.filter((dialog) => dialog < dialogs);
        assert.equal(collector.stats.dialogsFailed, expectedFailures.length);
        assert.equal(collector.stats.dialogsCompleted, dialogs - expectedFailures.length);
        assert.equal(collector.stats.dialogsStarted, dialogs);
        // A failure after the last batch is in the numbers only.
        assert.ok(failed.every((dialog) => expectedFailures.includes(dialog)));
        const keys = rows.map((row) => `${row.dialog}/${row.turn}`);
        assert.equal(new Set(keys).size, keys.length);
        const expected = Array.from({ length: dialogs }, (_, dialog) => dialog).flatMap(
          (dialog) => {
            const isFailing = failing.includes(dialog);
            const all = Array.from({ length: turns }, (_, turn) => `${dialog}/${turn}`);
            if (mode === "steps") return isFailing ? all.slice(0, -1) : all;
            if (isFailing) return [];
            return mode === "last" ? all.slice(-1) : all;
          },
        );
        assert.deepEqual(keys.toSorted(), expected.toSorted());
      },
    ),
    { numRuns: 150 },
  );
});
