import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { recordingGroups, weightsStandIn } from "../../_support/weights_stand_in.ts";

const handlers = { "GET /health": () => new Response(null) };
const weights = { "a.weight": { data: Float32Array.of(1, 2), shape: [2] } };

// case 20

Deno.test("every server joins with its rank; a refusal tells the server's words", async () => {
  await using one = weightsStandIn(handlers, { tp_size: 2 });
  await using two = weightsStandIn(handlers, { tp_size: 2 });
  await using three = weightsStandIn({
    ...handlers,
    "POST /init_weights_update_group": () => Response.json({ success: true, message: "" }),
  }, { tp_size: 2 });
  const servers = [one, two, three];
  await using engine = await AsyncSGLang.connect(servers.map(({ url }) => url));
  await engine.initWeightUpdateGroup({ masterAddress: "10.0.0.1", masterPort: 29500 });
  const bodies = servers.map((server) =>
    server.requests.find(({ path }) => path === "/init_weights_update_group")!.body!
  );
  // FIX: upstream posts to one server only, with rank_offset 1.
  assert.deepEqual(bodies.map((body) => body.rank_offset), [1, 3, 5]);
  for (const body of bodies) {
    assert.equal(body.master_address, "10.0.0.1");
    assert.equal(body.master_port, 29500);
    assert.equal(body.world_size, 7);
  }
  await using refusing = weightsStandIn({
    ...handlers,
    "POST /init_weights_update_group": () => Response.json({ success: false, message: "no seat" }),
  });
  await using other = await AsyncSGLang.connect(refusing.url);
  await assert.rejects(
    other.initWeightUpdateGroup({ masterAddress: "10.0.0.1", masterPort: 29500 }),
    { code: "weight_sync", message: /no seat/ },
  );
});

// case 21

Deno.test("updates before the group are refused", async () => {
  await using server = weightsStandIn(handlers);
  await using engine = await AsyncSGLang.connect(server.url);
  const expected = { code: "state", message: /Weight update group not initialized/ };
  await assert.rejects(engine.updateWeights(weights), expected);
  await assert.rejects(
    engine.updateWeightsFromDistributed({ names: [], dtypes: [], shapes: [] }),
    expected,
  );
});

// case 22

Deno.test("no weights are warned of and send nothing", async () => {
  const warnings: string[] = [];
  const logger = {
    debug() {},
    info() {},
    error() {},
    warn: (message: string) => void warnings.push(message),
  };
  await using server = weightsStandIn(handlers);
  await using engine = await AsyncSGLang.connect(server.url, { logger });
  const before = server.calls.length;
  assert.equal(await engine.updateWeights({}), undefined);
  assert.equal(server.calls.length, before);
  assert.equal(warnings.length, 1);
});

Deno.test("an engine sends names, types and shapes to every server, in a session where asked for", async () => {
  await using old = weightsStandIn(handlers);
  await using newest = weightsStandIn(handlers, { version: "0.5.23" });
  await using engine = await AsyncSGLang.connect([old.url, newest.url]);
  await engine.initWeightUpdateGroup({ masterAddress: "10.0.0.1", masterPort: 29500 });
  await engine.updateWeightsFromDistributed({ names: ["a"], dtypes: ["float32"], shapes: [[2]] });
  const update = old.requests.find(({ path }) => path === "/update_weights_from_distributed")!
    .body!;
  assert.deepEqual([update.names, update.dtypes, update.shapes], [["a"], ["float32"], [[2]]]);
  assert.equal(update.flush_cache, false);
  assert.ok(!old.calls.includes("POST /begin_weight_update"));
  assert.ok(newest.calls.includes("POST /begin_weight_update"));
  assert.ok(newest.calls.includes("POST /end_weight_update"));
});

Deno.test("an engine as rank 0 syncs its servers and leaves the group at shutdown", async () => {
  await using server = weightsStandIn(handlers);
  const groups = recordingGroups();
  const engine = await AsyncSGLang.connect(server.url);
  await engine.initWeightUpdateGroup({
    scheme: { openGroup: groups.openGroup, nameCheck: "off", env: () => undefined },
  });
  const report = await engine.updateWeights(weights);
  assert.equal(report?.version, "1");
  assert.equal(groups.sent.length, 1);
  await engine.shutdown();
  assert.equal(server.calls.at(-1), "POST /destroy_weights_update_group");
});
