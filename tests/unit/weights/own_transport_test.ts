/** A transport that a user brings: it carries the bytes, the sync does all else. */
import assert from "node:assert/strict";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import {
  stageBuckets,
  type Transport,
  type TransportUpdate,
} from "../../../src/weights/transport/mod.ts";
import { weightsStandIn } from "../../_support/weights_stand_in.ts";

/** Puts every bucket into a store under a name, and tells the servers where to fetch it. */
class StoreTransport implements Transport {
  readonly name = "store";
  readonly needsSession = false;
  isConnected = false;
  readonly stored = new Map<string, Uint8Array>();
  readonly calls: string[] = [];

  connect() {
    this.calls.push("connect");
    this.isConnected = true;
    return Promise.resolve();
  }

  async prepare(run: Parameters<Transport["prepare"]>[0]): Promise<readonly TransportUpdate[]> {
    this.calls.push("prepare");
    const updates: TransportUpdate[] = [];
    for await (const { bucket, parts } of stageBuckets(run)) {
      const key = `${run.version}/${updates.length}`;
      this.stored.set(key, parts[0]!.bytes.slice());
      updates.push({
        message: `store bucket ${key}`,
        byteLength: bucket.byteLength,
        send: async (call) => {
          await Promise.all(run.servers.map((server) =>
            call.whileUpdating(server, async () => {
              await server.client.updateWeightsFromDisk(key, { signal: call.signal });
            })
          ));
        },
      });
    }
    return updates;
  }

  reset() {
    this.calls.push("reset");
    return Promise.resolve();
  }

  abort() {
    this.calls.push("abort");
    return Promise.resolve();
  }

  [Symbol.asyncDispose]() {
    this.calls.push("dispose");
    return Promise.resolve();
  }
}

const weights = {
  a: { data: Float32Array.of(1, 2), shape: [2] },
  b: { data: Float32Array.of(3), shape: [1] },
};

Deno.test("weights travel by a transport of one's own, bucket by bucket, in one sync", async () => {
  const fetched: string[] = [];
  const fetchBucket = ({ body }: { body?: Record<string, unknown> | undefined }) => {
    fetched.push(String(body?.model_path));
    return Response.json({ success: true, message: "ok" });
  };
  await using server = weightsStandIn({ "POST /update_weights_from_disk": fetchBucket });
  const transport = new StoreTransport();
  const progress: string[] = [];
  const sender = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    env: () => undefined,
    nameCheck: "off",
    bucketBytes: 8,
    transport: () => transport,
  }).createSender();
  await sender.initAllWorkersGroup();
  const report = await sender.updateWeights(weights, {
    onProgress: ({ message }) => progress.push(message),
  });
  assert.equal(report.transport, "store");
  assert.equal(report.buckets, 2);
  assert.equal(report.servers[0]!.condition, "complete");
  assert.equal(server.weightVersion, "1");
  assert.deepEqual(fetched, ["1/0", "1/1"]);
  assert.deepEqual(new Float32Array(transport.stored.get("1/0")!.buffer), Float32Array.of(1, 2));
  assert.deepEqual(new Float32Array(transport.stored.get("1/1")!.buffer), Float32Array.of(3));
  assert.ok(progress.includes("store bucket 1/1"));
  await sender.close();
  assert.deepEqual(transport.calls, ["connect", "prepare", "dispose"]);
});

Deno.test("a transport of one's own that fails is told to let go, and the servers are judged", async () => {
  let count = 0;
  const refuseSecond = () =>
    ++count === 1
      ? Response.json({ success: true, message: "ok" })
      : Response.json({ success: false, message: "no such key" }, { status: 400 });
  await using server = weightsStandIn({ "POST /update_weights_from_disk": refuseSecond });
  const transport = new StoreTransport();
  const sender = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    env: () => undefined,
    nameCheck: "off",
    bucketBytes: 8,
    transport: () => transport,
  }).createSender();
  await sender.initAllWorkersGroup();
  await assert.rejects(sender.updateWeights(weights), /no such key \(phase "store bucket 1\/1"/);
  assert.equal(sender.servers[0]!.condition, "partial");
  assert.ok(transport.calls.includes("abort"));
  await sender.close();
});
