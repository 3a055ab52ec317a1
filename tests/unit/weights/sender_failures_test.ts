import assert from "node:assert/strict";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { until } from "../../_support/clock.ts";
import { recordingGroups, weightsStandIn } from "../../_support/weights_stand_in.ts";
import { metadata, schemeFor, state } from "./_small_model.ts";

// case 92

Deno.test("a refused update tells the server's words, and generation is resumed", async () => {
  await using server = weightsStandIn({
    "POST /update_weights_from_distributed": () =>
      Response.json({ success: false, message: "boom" }),
  });
  const groups = recordingGroups();
  await using sender = schemeFor(server.url, { openGroup: groups.openGroup }).createSender();
  await sender.initAllWorkersGroup(metadata);
  await assert.rejects(sender.updateWeights(state), (error: Error & { phase?: string }) => {
    assert.match(error.message, /^SGLang weight update failed: boom/);
    assert.equal(error.phase, "update bucket 1 of 1");
    return true;
  });
  assert.equal(server.calls.at(-1), "POST /continue_generation");
  assert.equal(server.weightVersion, "default");
  assert.ok(groups.aborted.length > 0);
  assert.ok(server.calls.includes("POST /destroy_weights_update_group"));
});

Deno.test("a server that may hold part of the weights stays paused, unless told otherwise", async () => {
  const message = "shape mismatch. The full weights of the ModelRunner are partially updated.";
  const handlers = {
    "POST /update_weights_from_distributed": () =>
      Response.json({ success: false, message }, { status: 400 }),
  };
  for (const [whenMissed, last] of [["keep_paused", false], ["resume", true]] as const) {
    await using server = weightsStandIn(handlers);
    await using sender = schemeFor(server.url, { whenMissed }).createSender();
    await sender.initAllWorkersGroup(metadata);
    await assert.rejects(sender.updateWeights(state), { code: "weight_sync" });
    assert.equal(server.calls.includes("POST /continue_generation"), last);
    assert.equal(sender.servers[0]!.paused, !last);
    assert.match(server.weightVersion, /^incomplete:/);
  }
});

// case 93

Deno.test("a failing resume is told after a good update, and hidden after a bad one", async () => {
  const refuse = () => new Response("no", { status: 500 });
  await using good = weightsStandIn({ "POST /continue_generation": refuse });
  await using sender = schemeFor(good.url).createSender();
  await sender.initAllWorkersGroup(metadata);
  await assert.rejects(sender.updateWeights(state), { phase: "resume" });
  await using bad = weightsStandIn({
    "POST /continue_generation": refuse,
    "POST /update_weights_from_distributed": () =>
      Response.json({ success: false, message: "boom" }),
  });
  await using second = schemeFor(bad.url).createSender();
  await second.initAllWorkersGroup(metadata);
  await assert.rejects(second.updateWeights(state), /boom/);
});

Deno.test("a server that was started again is not asked for a group that it does not know", async () => {
  await using server = weightsStandIn();
  const groups = recordingGroups();
  await using sender = schemeFor(server.url, { openGroup: groups.openGroup }).createSender();
  await sender.initAllWorkersGroup(metadata);
  await sender.updateWeights(state);
  await sender.updateWeights(state);
  assert.equal(groups.opened.length, 1);
  await fetch(`${server.url}/update_weight_version`, {
    method: "POST",
    body: JSON.stringify({ new_version: "default" }),
  }).then((response) => response.body?.cancel());
  await sender.updateWeights(state);
  assert.equal(groups.opened.length, 2);
});

Deno.test("close ends a sync that runs, and is safe to call twice", async () => {
  await using server = weightsStandIn();
  const sending = Promise.withResolvers<void>();
  const sender = schemeFor(server.url, {
    openGroup: async (options) => {
      const group = await recordingGroups().openGroup(options);
      return {
        ...group,
        broadcast(_parts, { signal }) {
          sending.resolve();
          return new Promise((_, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason));
          });
        },
      };
    },
  }).createSender();
  await sender.initAllWorkersGroup(metadata);
  const running = sender.updateWeights(state);
  const ended = assert.rejects(running, { code: "aborted" });
  await sending.promise;
  await sender.close();
  await sender.close();
  await ended;
  await assert.rejects(sender.updateWeights(state), { code: "state", message: /closed/ });
});

Deno.test("a half-updated server is not resumed by a later sync that fails early", async () => {
  let updates = 0;
  let isFlushable = true;
  await using server = weightsStandIn({
    "POST /update_weights_from_distributed": () =>
      Response.json({ success: ++updates !== 2, message: "boom" }),
    "POST /flush_cache": () => new Response("", { status: isFlushable ? 200 : 400 }),
  });
  await using sender = schemeFor(server.url, { bucketBytes: 24 }).createSender();
  await sender.initAllWorkersGroup(metadata);
  await assert.rejects(sender.updateWeights(state), /boom/);
  assert.match(server.weightVersion, /^incomplete:/);
  isFlushable = false;
  await assert.rejects(sender.updateWeights(state), { phase: "flush" });
  assert.equal(server.calls.includes("POST /continue_generation"), false);
  assert.equal(sender.servers[0]!.condition, "partial");
  isFlushable = true;
  await sender.updateWeights(state);
  assert.equal(server.calls.at(-1), "POST /continue_generation");
  assert.equal(server.weightVersion, "2");
});

Deno.test("a server that took everything before another failed serves the new weights", async () => {
  await using whole = weightsStandIn();
  await using failing = weightsStandIn({
    "POST /update_weights_from_distributed": async () => {
      await until(() => whole.calls.includes("POST /update_weights_from_distributed"));
      return Response.json({ success: false, message: "partially updated" });
    },
  });
  const scheme = new SGLangWeightSyncScheme({
    workers: [whole.url, failing.url],
    env: () => undefined,
    openGroup: recordingGroups().openGroup,
  });
  await using sender = scheme.createSender();
  await sender.initAllWorkersGroup(metadata);
  await assert.rejects(sender.updateWeights(state), (error: Error & { server?: string }) => {
    assert.equal(error.server, failing.url);
    assert.match(error.message, /new weights, serving.*partly updated, kept paused/);
    return true;
  });
  assert.equal(whole.weightVersion, "1");
  assert.match(failing.weightVersion, /^incomplete:1/);
});
