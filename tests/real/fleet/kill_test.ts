/** A fleet that heals, on the real SGLang and router. `deno task test:kills` is longer, on `serve`. */
import assert from "node:assert/strict";
import { killReplicas, retireReplica } from "./_killing.ts";

Deno.test("a replica killed under load comes back with the fleet's weights, and no request fails", async () => {
  const report = await killReplicas(1);
  // deno-lint-ignore no-console -- the figures
  console.log(JSON.stringify({ ...report, errors: report.errors.length }));
  assert.deepEqual(report.errors, []);
  assert.deepEqual(report.strange, []);
  assert.ok(report.samples > 0 && report.streams > 0);
});

Deno.test("a replica that is killed four times within a minute is retired and told; an order brings it back", async () => {
  const { errors, strange, kills, states, statesAfterOrder, reason, ...rest } =
    await retireReplica();
  // deno-lint-ignore no-console -- the figures
  console.log(JSON.stringify({ kills, reason, ...rest }));
  assert.deepEqual([errors, strange], [[], []]);
  assert.equal(kills, 4);
  assert.notEqual(reason, "");
  assert.deepEqual(states, ["retired", "healthy"]);
  assert.deepEqual(statesAfterOrder, ["healthy", "healthy"]);
});
