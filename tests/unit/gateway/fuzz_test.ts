import assert from "node:assert/strict";
import { fuzzGateway } from "../../_support/gateway_fuzz.ts";
import { setup } from "./_support.ts";

Deno.test("changed bodies on all routes get clear errors, and an honest agent sees nothing of them", async () => {
  await using it = await setup({
    limits: { maxSamples: 4 },
    policy: { generateKwargs: { maxNewTokens: 2, ignoreEos: true } },
    sessionLimits: { maxConcurrent: 1000 },
  });
  const { bodies, statuses, witnessed } = await fuzzGateway(it.gateway, { bodies: 400, seed: 1 });
  assert.ok(bodies >= 400 && witnessed >= 4);
  // Some are still right, most are not.
  assert.ok(statuses.get(200)! > 5 && statuses.get(400)! > 100, JSON.stringify([...statuses]));
});
