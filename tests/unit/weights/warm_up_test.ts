/** The first collective of groups, before any sync: what a server says of it, and when that is told. */
import { equal, rejects } from "node:assert/strict";
import type { CollectiveGroup, OpenGroupOptions } from "../../../src/collective/group.ts";
import { HttpError } from "../../../src/errors.ts";
import { resolveOptions } from "../../../src/weights/resolved_options.ts";
import { CollectiveTransport } from "../../../src/weights/transport/collective.ts";
import type { TransportServer } from "../../../src/weights/transport/mod.ts";

/** A transport with a server whose answer to the warm-up is an error with these words. */
function transportTo(words: string, isSent: boolean) {
  const aborted: Error[] = [];
  const openGroup = (options: OpenGroupOptions): Promise<CollectiveGroup> => {
    const ended = Promise.withResolvers<void>();
    return Promise.resolve({
      ...options,
      backend: "nccl" as const,
      connect: () => Promise.resolve(),
      broadcast: () => Promise.resolve(),
      // A collective without all of its ranks lasts until it is aborted.
      broadcastDevice: () => isSent ? Promise.resolve() : ended.promise,
      abort(reason) {
        aborted.push(reason);
        ended.reject(reason);
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    });
  };
  const device = {
    stage: () => Promise.resolve([]),
    stagingBuffer: (byteLength: number) => new Uint8Array(byteLength),
  };
  const way = { openGroup, device, [Symbol.asyncDispose]: () => Promise.resolve() };
  const options = resolveOptions({
    serverUrl: "http://127.0.0.1:1",
    transport: "nccl",
    masterAddress: "127.0.0.1",
    masterPort: 1,
    env: () => undefined,
    deadlines: { destroyMs: 1000 },
  });
  const refusal = new HttpError(words, {
    status: 400,
    endpoint: "POST /update_weights_from_distributed",
    serverMessage: words,
  });
  const server = {
    url: "http://127.0.0.1:1",
    tpSize: 1,
    client: {
      pause: () => Promise.resolve(),
      resume: () => Promise.resolve(),
      updateWeightsFromDistributed: () => Promise.reject(refusal),
    },
    joinGroup: () => Promise.resolve(),
    leaveGroups: () => Promise.resolve(),
    note: () => {},
  } as unknown as TransportServer;
  const link = {
    servers: [server],
    step: <T>(_phase: string, _message: string, work: () => Promise<T>) => work(),
    signal: undefined,
  };
  const transport = new CollectiveTransport("nccl", () => Promise.resolve(way), options);
  return { transport, link, aborted };
}

Deno.test("a server whose collective failed is believed at once, so that the others do not wait in theirs", async () => {
  const words =
    "Failed to update parameter online: NCCL error in: c10d/NCCLUtils.cpp: Duplicate GPU " +
    "detected : rank 1 and rank 2 both on CUDA device 70";
  const { transport, link, aborted } = transportTo(words, false);
  await transport.connect(link);
  await rejects(transport.warmUp(link), /Duplicate GPU detected : rank 1 and rank 2/);
  equal(aborted.length, 1);
});

Deno.test("a server that has no such weight has taken the broadcast, which is all", async () => {
  const { transport, link, aborted } = transportTo("KeyError: 'sglang_rl.warm_up'", true);
  await transport.connect(link);
  await transport.warmUp(link);
  equal(aborted.length, 0);
});
