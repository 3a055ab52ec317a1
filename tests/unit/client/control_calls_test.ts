import assert from "node:assert/strict";
import { SGLangClient } from "../../../src/client/mod.ts";
import { healthyServer, serverInfo, standIn } from "../../_support/http_stand_in.ts";

Deno.test("ordinary calls carry the API key, control calls the admin key", async () => {
  await using server = standIn({
    ...healthyServer,
    "POST /continue_generation": () => Response.json({ status: "ok" }),
  });
  using client = new SGLangClient({ url: server.url, apiKey: "sk-a", adminApiKey: "sk-b" });
  await client.generate({ text: "a" });
  await client.resume();
  const keys = server.requests.map(({ headers }) => headers.get("authorization"));
  assert.deepEqual(keys, ["Bearer sk-a", "Bearer sk-b"]);
});

Deno.test("without an admin key control calls carry the API key; without any key none is sent", async () => {
  await using server = standIn();
  using one = new SGLangClient({ url: server.url, apiKey: "sk-a" });
  using none = new SGLangClient({ url: server.url });
  await one.abort("all");
  await none.abort(["r"]);
  const keys = server.requests.map(({ headers }) => headers.get("authorization"));
  assert.deepEqual(keys, ["Bearer sk-a", null]);
});

Deno.test("no key is in an error", async () => {
  await using server = standIn({ "GET /model_info": () => new Response("no", { status: 401 }) });
  using client = new SGLangClient({ url: server.url, apiKey: "sk-a" });
  await assert.rejects(client.modelInfo(), (error: Error) => {
    assert.match(error.message, /401.*Give the server's key as `apiKey`/);
    assert.equal(Deno.inspect(error).includes("sk-a"), false);
    return true;
  });
  assert.throws(
    () => new SGLangClient({ url: "http://me:sk-a@host:1" }),
    (error: Error) => error.message.includes("apiKey") && !error.message.includes("sk-a"),
  );
});

Deno.test("a redirect is not followed, since it would carry the key away", async () => {
  await using other = standIn();
  await using server = standIn({
    "GET /model_info": () => Response.redirect(`${other.url}/model_info`, 302),
  });
  using client = new SGLangClient({ url: server.url, apiKey: "sk-a" });
  await assert.rejects(client.modelInfo(), { code: "http", status: 302 });
  assert.equal(other.requests.length, 0);
});

Deno.test("no weight update asks for a flush of the cache", async () => {
  const ok = () => Response.json({ success: true, message: "Succeeded" });
  await using server = standIn({
    "POST /update_weights_from_distributed": ok,
    "POST /update_weights_from_disk": ok,
    "POST /update_weights_from_tensor": ok,
  });
  using client = new SGLangClient({ url: server.url });
  const weights = { names: ["w"], dtypes: ["float32"], shapes: [[1]] };
  await client.updateWeightsFromDistributed(weights, { weightVersion: "3" });
  await client.updateWeightsFromDisk("/models/next");
  await client.updateWeightsFromTensor(["gA=="]);
  assert.deepEqual(server.requests.map(({ body }) => body?.flush_cache), [false, false, false]);
  assert.equal(server.requests[0]?.body?.weight_version, "3");
});

// case 20

Deno.test("joining a group sends its place, and a refusal carries the server's words", async () => {
  let success = true;
  await using server = standIn({
    "POST /init_weights_update_group": () => Response.json({ success, message: "no store" }),
  });
  using client = new SGLangClient({ url: server.url });
  const group = { masterAddress: "10.0.0.1", masterPort: 5000, rankOffset: 1, worldSize: 7 };
  await client.initWeightsUpdateGroup(group);
  assert.deepEqual(server.requests[0]?.body, {
    master_address: "10.0.0.1",
    master_port: 5000,
    rank_offset: 1,
    world_size: 7,
    group_name: "weight_update_group",
    backend: "nccl",
  });
  success = false;
  await assert.rejects(client.initWeightsUpdateGroup(group), /failed: no store/);
});

Deno.test("weight sessions are opened only on servers that know them", async () => {
  const ok = () => Response.json({ success: true, message: "" });
  const handlers = { "POST /begin_weight_update": ok, "POST /end_weight_update": ok };
  const info = (version: string) => () => Response.json({ ...serverInfo, version });
  await using old = standIn({ ...handlers, "GET /server_info": info("0.5.16") });
  await using recent = standIn({ ...handlers, "GET /server_info": info("0.5.23") });
  using oldClient = new SGLangClient({ url: old.url });
  using recentClient = new SGLangClient({ url: recent.url });
  assert.equal(await oldClient.beginWeightUpdate(), false);
  assert.equal(await recentClient.beginWeightUpdate(), true);
  assert.equal(await recentClient.endWeightUpdate(), true);
  assert.deepEqual(old.calls, ["GET /server_info"]);
  assert.deepEqual(recent.calls, [
    "GET /server_info",
    "POST /begin_weight_update",
    "POST /end_weight_update",
  ]);
});

Deno.test("a new weight version does not abort what runs", async () => {
  await using server = standIn({
    "POST /update_weight_version": () => Response.json({ success: true, message: "ok" }),
  });
  using client = new SGLangClient({ url: server.url });
  await client.updateWeightVersion("4");
  assert.deepEqual(server.requests[0]?.body, { new_version: "4", abort_all_requests: false });
});
