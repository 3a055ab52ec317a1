import type { GivenOptions, WeightSyncOptions } from "../../../src/weights/options.ts";
import { deepEqual, equal, rejects } from "node:assert/strict";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { recordingGroups, weightsStandIn } from "../../_support/weights_stand_in.ts";

const weights = { "0.bias": { data: Float32Array.of(7, 8, 9), shape: [3] } } as const;
const metadata = { "0.bias": { dtype: "float32", shape: [3] } } as const;

async function senderOf(url: string, options: GivenOptions = {}) {
  const { openGroup } = recordingGroups();
  const scheme = new SGLangWeightSyncScheme({
    serverUrl: url,
    env: () => undefined,
    openGroup,
    ...options,
  } as WeightSyncOptions);
  const sender = scheme.createSender();
  await sender.initAllWorkersGroup(metadata);
  return sender;
}

/** The calls from the first mark to the weights. */
function marking(calls: readonly string[]): string[] {
  const first = calls.indexOf("POST /update_weight_version");
  return calls.slice(first, calls.indexOf("POST /update_weights_from_distributed"));
}

Deno.test("a mark is read again before the weights go, but not for a sole trainer", async () => {
  for (const soleTrainer of [false, true]) {
    await using server = weightsStandIn();
    await using sender = await senderOf(server.url, { soleTrainer });
    const from = server.calls.length;
    await sender.updateWeights(weights, { version: "v1" });
    const read = marking(server.calls.slice(from)).filter((call) => call === "GET /model_info");
    // Once after the mark, and once before the bucket.
    equal(read.length, soleTrainer ? 0 : 2);
    equal(server.weightVersion, "v1");
  }
});

Deno.test("a sole trainer that is not alone is told at the end", async () => {
  await using server = weightsStandIn({
    "POST /update_weights_from_distributed": async () => {
      const body = JSON.stringify({ new_version: "updating:other:9", abort_all_requests: false });
      const headers = { "content-type": "application/json" };
      await (await fetch(`${server.url}/update_weight_version`, { method: "POST", headers, body }))
        .body?.cancel();
      return Response.json({ success: true, message: "ok" });
    },
  });
  await using sender = await senderOf(server.url, { soleTrainer: true });
  await rejects(sender.updateWeights(weights), /Another trainer writes to the server/);
  deepEqual(server.calls.filter((call) => call === "POST /continue_generation"), []);
});
