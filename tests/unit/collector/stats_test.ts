import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type CollectorStats,
  LLMCollector,
  ReplayBuffer,
  type RolloutBatch,
} from "../../../src/collector/mod.ts";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { countingEnvironment, fakePolicy, sampleOf } from "./_fakes.ts";

/** What must be nothing at the end, when everything was drained. */
function unaccounted(stats: CollectorStats): { dialogs: number; rows: number } {
  return {
    dialogs: stats.dialogsStarted - stats.dialogsCompleted - stats.dialogsFailed -
      stats.dialogsAbandoned - stats.retriesWaiting,
    rows: stats.turns - stats.rowsYielded - stats.rowsStale - stats.rowsUnused,
  };
}

Deno.test("the stats add up to the row, whatever fails, gets stale, is retried or is cut off", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        mode: fc.constantFrom("steps", "trajectories", "last_steps", "groups"),
        incompleteGroups: fc.constantFrom("fill", "drop", "keep"),
        overSample: fc.integer({ min: 0, max: 2 }),
        onStale: fc.constantFrom("drop", "retry", "keep"),
        onDialogError: fc.constantFrom("throw", "skip"),
        size: fc.integer({ min: 1, max: 5 }),
        perBatch: fc.integer({ min: 1, max: 7 }),
        totalDialogs: fc.integer({ min: 1, max: 25 }),
        dialogRetries: fc.integer({ min: 0, max: 2 }),
        failsAt: fc.array(fc.boolean(), { minLength: 40, maxLength: 40 }),
        syncsAt: fc.array(fc.boolean(), { minLength: 40, maxLength: 40 }),
        stopAfter: fc.integer({ min: 0, max: 12 }),
      }),
      async (plan) => {
        const clock = new FakeClock();
        let calls = 0;
        const policy = {
          call: async ({ dialog, turn }: { dialog: number; turn: number }) => {
            const call = calls++ % 40;
            await Promise.resolve();
            if (plan.syncsAt[call]) collector.incrementVersion();
            if (plan.failsAt[call] && call % 3 === 0) throw new Error("no answer");
            return sampleOf([dialog, turn]);
          },
        };
        const collector: LLMCollector = new LLMCollector(
          new EnvironmentPool(() => countingEnvironment(3), { size: plan.size }),
          {
            policy,
            dialogTurnsPerBatch: plan.perBatch,
            totalDialogs: plan.mode === "groups" ? 3 * plan.totalDialogs : plan.totalDialogs,
            ...(plan.mode !== "groups" ? {} : {
              groupSize: 3,
              incompleteGroups: plan.incompleteGroups,
              overSample: plan.overSample,
              maxGroupRefills: 2,
            }),
            maxStaleness: 1,
            onStale: plan.mode === "steps" && plan.onStale === "retry" ? "drop" : plan.onStale,
            ...(plan.mode === "groups" ? {} : {
              yieldCompletedTrajectories: plan.mode !== "steps",
              yieldOnlyLastSteps: plan.mode === "last_steps",
            }),
            onDialogError: plan.onDialogError,
            maxConsecutiveFailures: 1_000,
            dialogRetries: plan.dialogRetries,
            clock,
          },
        );
        let rows = 0;
        let told = 0;
        let isOver = false;
        const seen = new Set<string>();
        const take = (batch: RolloutBatch | null) => {
          rows += batch?.length ?? 0;
          told += batch?.failures.length ?? 0;
          for (const row of batch?.rows ?? []) {
            const key = `${row.dialog}/${row.attempt}/${row.turn}`;
            assert.ok(!seen.has(key), `${key} twice`);
            seen.add(key);
          }
        };
        const time = (async () => {
          // Retries wait for their pause.
          while (!isOver) await clock.advance(50);
        })();
        await using _over = { [Symbol.asyncDispose]: () => Promise.resolve(void (isOver = true)) };
        for (let i = 0; i < plan.stopAfter; i++) {
          try {
            const batch = await collector.rollout();
            take(batch);
            if (batch === null) break;
          } catch (error) {
            assert.match(String(error), /no answer/);
            told++;
          }
        }
        await collector.asyncShutdown();
        isOver = true;
        await time;
        for (let rest = collector.drain(); rest !== null; rest = collector.drain()) take(rest);
        const { stats } = collector;
        assert.deepEqual(unaccounted(stats), { dialogs: 0, rows: 0 }, JSON.stringify(stats));
        assert.equal(stats.rowsYielded, rows);
        // Errors that nobody waited for any more stay with the collector.
        assert.ok(told <= stats.dialogsFailed);
      },
    ),
    { numRuns: 150 },
  );
});

Deno.test("dialogs that fail after the last batch are told, whichever way errors go", async () => {
  const pool = () =>
    new EnvironmentPool(() => ({
      ...countingEnvironment(1),
      reset: ({ dialog }) => {
        if (dialog === 3) throw new Error("no sandbox for 3");
        return { messages: [{ role: "user", content: "go" }] };
      },
    }), { size: 1 });
  const options = { policy: fakePolicy(), dialogTurnsPerBatch: 3, totalDialogs: 4 };
  await using skipping = new LLMCollector(pool(), { ...options, onDialogError: "skip" });
  assert.equal((await skipping.rollout())?.length, 3);
  const last = await skipping.rollout();
  assert.deepEqual([last?.length, last?.shape], [0, [0]]);
  assert.deepEqual(last?.failures.map(({ dialog }) => dialog), [3]);
  assert.equal(await skipping.rollout(), null);
  await using throwing = new LLMCollector(pool(), options);
  await throwing.rollout();
  await assert.rejects(throwing.rollout(), /no sandbox for 3/);
  assert.equal(await throwing.rollout(), null);
});

Deno.test("who waits for rows of a collector that fails, ends or is shut down is told at once", async () => {
  const clock = new FakeClock();
  const start = (policy: ReturnType<typeof fakePolicy>, replayBuffer: ReplayBuffer) => {
    const collector = new LLMCollector(countingEnvironment(1), {
      policy,
      dialogTurnsPerBatch: 1,
      totalDialogs: 3,
      replayBuffer,
    });
    collector.start();
    return collector;
  };
  const failing = new ReplayBuffer({ capacity: 10, clock });
  await using _failing = start(
    fakePolicy(({ dialog }) => {
      if (dialog === 2) throw new Error("no server");
    }),
    failing,
  );
  await assert.rejects(failing.waitFor(5), /no server; the buffer has 2 of 5 rows/);
  // Also later; and what is there can still be had.
  await assert.rejects(failing.waitFor(3), /no server/);
  await failing.waitFor(2);

  const ending = new ReplayBuffer({ capacity: 10, clock });
  await using _ending = start(fakePolicy(), ending);
  await assert.rejects(ending.waitFor(4), { code: "state", message: /has ended; .* 3 of 4 rows/ });

  const shut = new ReplayBuffer({ capacity: 10, clock });
  await using collector = start(fakePolicy(() => new Promise(() => {})), shut);
  const waiting = assert.rejects(shut.waitFor(1), { code: "state", message: /has ended/ });
  await collector.asyncShutdown();
  await waiting;

  // Another collector takes over: there is somebody to wait for again.
  await using _again = start(fakePolicy(), shut);
  await shut.waitFor(3);
  assert.equal(clock.pending, 0);
});
