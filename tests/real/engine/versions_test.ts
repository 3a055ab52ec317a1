import assert from "node:assert/strict";
import { RealPair } from "../../../scripts/soak/pairs.ts";
import { runVersionsSoak } from "../../../scripts/soak/versions.ts";

Deno.test("real servers that are killed and come back with old weights behind the real router", async () => {
  await using pair = await RealPair.start();
  const { kills, syncs, rows, wrongRows, lostRows, doubledRows, versionsTwice } =
    await runVersionsSoak(pair, {
      durationMs: 400_000,
      // One of each version; `deno task soak:versions` is the long form.
      kills: 2,
      seed: 1,
    });
  assert.equal(kills, 2);
  assert.ok(syncs > 0 && rows > 0, `${syncs} syncs, ${rows} rows`);
  assert.deepEqual({ wrongRows, lostRows, doubledRows, versionsTwice }, {
    wrongRows: 0,
    lostRows: 0,
    doubledRows: 0,
    versionsTwice: 0,
  });
});
