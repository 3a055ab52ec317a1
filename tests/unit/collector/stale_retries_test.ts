/** A dialog that is always too old is given up after a number of tries, not run for ever. */
import { deepEqual, equal } from "node:assert/strict";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { LLMCollector } from "../../../src/collector/mod.ts";
import { collect, countingEnvironment, fakePolicy } from "./_fakes.ts";

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
