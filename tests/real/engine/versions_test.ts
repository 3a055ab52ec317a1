/** No weights are taken for others; `deno task soak:versions` is the long form. */
import assert from "node:assert/strict";
import { RealPair } from "../../../scripts/soak/pairs.ts";
import { runVersionsSoak } from "../../../scripts/soak/versions.ts";

Deno.test("no row of a replica that was killed and came back with old weights counts as current", async () => {
  // One server of each version.
  await using pair = await RealPair.start({ router: true });
  const report = await runVersionsSoak(pair, { durationMs: 300_000, kills: 2, seed: 1 });
  const { kills, syncs, rows, wrongRows, lostRows, doubledRows, versionsTwice } = report;
  assert.equal(kills, 2);
  assert.equal(report.fewestServers, 2, "one that died was forgotten");
  assert.ok(syncs > 0 && rows > 0, `${syncs} syncs, ${rows} rows`);
  assert.deepEqual({ wrongRows, lostRows, doubledRows, versionsTwice }, {
    wrongRows: 0,
    lostRows: 0,
    doubledRows: 0,
    versionsTwice: 0,
  });
});
