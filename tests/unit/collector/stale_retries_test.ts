/** A dialog that is always too old is given up after a number of tries, not run for ever. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { LLMCollector } from "../../../src/collector/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { seeded } from "../../_support/seeded.ts";
import { collect, countingEnvironment, fakePolicy, sampleOf } from "./_fakes.ts";

Deno.test("a dialog that is stale in every try is dropped after nine", async () => {
  let calls = 0;
  await using collector: LLMCollector = new LLMCollector(
    new EnvironmentPool(() => countingEnvironment(1), { size: 1 }),
    {
      policy: fakePolicy(() => {
        if (++calls > 30) throw new Error("it is tried without end");
        collector.incrementVersion();
        collector.incrementVersion();
      }),
      dialogTurnsPerBatch: 1,
      totalDialogs: 1,
      yieldCompletedTrajectories: true,
      maxStaleness: 0,
      onStale: "retry",
    },
  );
  const rows = (await collect(collector)).flatMap((batch) => [...batch.rows]);
  deepEqual(rows, []);
  equal(calls, 9);
  equal(collector.stats.staleDropped, 1);
});

Deno.test("behind a reader that lags, no group grows too old in every try", async () => {
  for (let seed = 0; seed < 8; seed++) {
    const random = seeded(seed);
    const dialogs = 240;
    await using collector: LLMCollector = new LLMCollector(
      new EnvironmentPool(() => countingEnvironment(1), { size: 16 }),
      {
        policy: fakePolicy(async () => {
          const steps = random() < 0.1 ? 300 : 5;
          for (let i = 0; i < steps; i++) await Promise.resolve();
        }),
        dialogTurnsPerBatch: 8,
        totalDialogs: dialogs,
        groupSize: 2,
        overSample: 1,
        // More is collected ahead than may wait: the end of the queue is always too old.
        prefetchBatches: 3,
        maxStaleness: 2,
        onStale: "retry",
      },
    );
    let rows = 0;
    for await (const batch of collector) {
      rows += batch.rows.length;
      for (let i = 0; i < 5_000; i++) await Promise.resolve();
      collector.incrementVersion();
    }
    equal(rows, dialogs, `seed ${seed}: ${collector.stats.staleDropped} dropped`);
  }
});

/** A collector whose servers say of themselves what `said` gives for each call; a call takes a second. */
function collectorOf(said: (call: number) => string, onStale: "drop" | "retry") {
  const clock = new FakeClock();
  let calls = 0;
  const collector = new LLMCollector(
    new EnvironmentPool(() => countingEnvironment(1), { size: 2 }),
    {
      policy: {
        weightVersions: () => Promise.resolve(["step-4", "step-5"]),
        async call() {
          // A run without an end is no test that ends.
          if (++calls > 5_000) throw new Error("it goes on without end");
          await clock.advance(1000);
          return sampleOf([1, 2], { weightVersion: said(calls) });
        },
      },
      dialogTurnsPerBatch: 4,
      yieldCompletedTrajectories: true,
      maxStaleness: 0,
      onStale,
      clock,
    },
  );
  return { collector, calls: () => calls };
}

Deno.test("where every dialog is stale and no sync comes, collecting ends and tells why", async () => {
  for (const onStale of ["drop", "retry"] as const) {
    for (const said of ["step-4", "a name that nobody gave"]) {
      const { collector, calls } = collectorOf(() => said, onStale);
      await using _collector = collector;
      await rejects(
        collector.rollout(),
        (error: Error) =>
          /stale dialogs in a row/.test(error.message) && error.message.includes(said),
      );
      equal(calls() < 1_000, true);
    }
  }
});

Deno.test("where some dialogs are fresh the stale ones are dropped for as long as it takes", async () => {
  const { collector } = collectorOf((call) => call % 50 === 0 ? "step-5" : "step-4", "drop");
  await using _collector = collector;
  const batch = await collector.rollout();
  equal(batch!.rows.length, 4);
  equal(collector.stats.staleDropped > 90, true);
});
