/** Weights through a group with a device: what is staged, when, from where, and how it ends. */
import type { GivenOptions, WeightSyncOptions } from "../../../src/weights/options.ts";
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import type {
  CollectiveGroup,
  DevicePart,
  GatheredPart,
  OpenGroupOptions,
  StagePart,
} from "../../../src/weights/transport/mod.ts";
import { type SGLangWeightSender, SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { float8Blocks, type StateDict, weightIterator } from "../../../src/weights/source/mod.ts";
import { FakeClock, openCalls, turns, until } from "../../_support/clock.ts";
import { recordingGroups, weightsStandIn } from "../../_support/weights_stand_in.ts";

const STEP_MS = 60_000;

/** What a group with a device was asked, in order, and what it staged. */
interface DeviceLog {
  readonly events: string[];
  readonly staged: GatheredPart[][];
}

type Hang = "stage 1" | "stage 2" | "send 1" | "send 2";

function never(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  return promise;
}

/** What a group with a device can do beside that. */
type Abilities = Partial<Pick<CollectiveGroup, "queues" | "stagingSlots" | "makesFloat8">>;

/** A group whose device is a list: a part's address is the number of its stage call. */
function deviceGroups(
  hang?: Hang,
  abilities: Abilities = {},
): DeviceLog & { openGroup: GivenOptions["openGroup"] } {
  const log: DeviceLog = { events: [], staged: [] };
  const { events, staged } = log;
  let staging = 0;
  let sending = 0;
  const copyOf = (part: StagePart | GatheredPart): GatheredPart => {
    const pieces = "pieces" in part ? part.pieces : [part];
    return {
      dtype: part.dtype,
      pieces: pieces.map((one) => "bytes" in one ? { ...one, bytes: one.bytes.slice() } : one),
    };
  };
  const openGroup = (options: OpenGroupOptions): Promise<CollectiveGroup> =>
    Promise.resolve({
      ...abilities,
      backend: "nccl" as const,
      masterAddress: options.masterAddress,
      masterPort: options.masterPort,
      groupName: options.groupName,
      worldSize: options.worldSize,
      connect: () => Promise.resolve(),
      broadcast: () => Promise.reject(new Error("bytes were sent past the device")),
      async stage(parts, { signal }) {
        const number = ++staging;
        events.push(`stage ${number}`);
        if (hang === `stage ${number}`) await never(signal);
        staged.push(parts.map(copyOf));
        const device = { address: BigInt(number), byteLength: 1 };
        return parts.map(({ dtype }) => ({ device, dtype }));
      },
      async broadcastDevice(parts: readonly DevicePart[], { signal }) {
        const number = Number(parts[0]!.device.address);
        events.push(`send ${number}`);
        if (hang === `send ${++sending}`) await never(signal);
        // The bucket after this one is staged meanwhile.
        await turns();
        events.push(`sent ${number}`);
      },
      abort: (_reason) => (events.push("abort"), Promise.resolve()),
      close: () => Promise.resolve(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    });
  return { ...log, openGroup };
}

async function senderTo(
  url: string,
  options: GivenOptions,
): Promise<SGLangWeightSender> {
  const sender = new SGLangWeightSyncScheme({
    serverUrl: url,
    env: () => undefined,
    transport: "nccl",
    nameCheck: "off",
    deadlines: { updateMs: STEP_MS, destroyMs: STEP_MS, controlMs: STEP_MS },
    ...options,
  } as WeightSyncOptions).createSender();
  await sender.initAllWorkersGroup();
  return sender;
}

const four = Array.from({ length: 4 }, (_, i) => ({
  name: `w${i}`,
  shape: [8],
  data: new Uint8Array(8).fill(i),
}));

function bytesOf(part: GatheredPart): number[] {
  return part.pieces.flatMap((piece) => "bytes" in piece ? [...piece.bytes] : []);
}

Deno.test("a bucket is staged while the one before is sent, and none before its turn", async () => {
  await using server = weightsStandIn();
  const group = deviceGroups();
  await using sender = await senderTo(server.url, { openGroup: group.openGroup, bucketBytes: 8 });
  const report = await sender.updateWeights(weightIterator(() => four));
  const at = (event: string) => group.events.indexOf(event);
  for (let i = 2; i <= 4; i++) {
    ok(at(`stage ${i}`) < at(`sent ${i - 1}`), `${group.events}`);
    if (i > 2) ok(at(`stage ${i}`) > at(`sent ${i - 2}`), `${group.events}`);
  }
  deepEqual(group.staged.map(([part]) => bytesOf(part!)), four.map(({ data }) => [...data]));
  ok(report.pausedMs > 0 && report.pausedMs < report.durationMs);
});

Deno.test("a group that queues is given the next bucket while the last is on its way, staged in time", async () => {
  await using server = weightsStandIn();
  const group = deviceGroups(undefined, { queues: true, stagingSlots: 3 });
  await using sender = await senderTo(server.url, { openGroup: group.openGroup, bucketBytes: 8 });
  await sender.updateWeights(weightIterator(() => four));
  const at = (event: string) => group.events.indexOf(event);
  for (let i = 1; i <= 4; i++) {
    ok(at(`stage ${i}`) < at(`send ${i}`), `${group.events}`);
    // Its memory is that of the bucket three before.
    if (i > 3) ok(at(`stage ${i}`) > at(`sent ${i - 3}`), `${group.events}`);
  }
  const updates = server.calls.filter((call) => call === "POST /update_weights_from_distributed");
  equal(updates.length, 4);
  deepEqual(group.staged.map(([part]) => bytesOf(part!)), four.map(({ data }) => [...data]));
});

Deno.test("FP8 is left to a device that makes it, values and scales of the same bytes", async () => {
  const matrix = Uint16Array.from({ length: 130 * 4 }, (_, i) => 0x3f80 + i % 7);
  const model = () =>
    float8Blocks({ "layer.q_proj.weight": { data: matrix, dtype: "bfloat16", shape: [130, 4] } });
  const sent: GatheredPart[][][] = [];
  for (const makesFloat8 of [true, false]) {
    await using server = weightsStandIn();
    const group = deviceGroups(undefined, { makesFloat8 });
    await using sender = await senderTo(server.url, { openGroup: group.openGroup });
    await sender.updateWeights(model());
    sent.push(group.staged);
    const body = server.requests.find(({ path }) => path === "/update_weights_from_distributed");
    deepEqual(body!.body!.shapes, [[2, 1], [130, 4]]);
  }
  const [made, read] = sent.map((staged) => staged[0]![0]!.pieces);
  deepEqual(made!.map(({ float8 }) => [float8!.part, float8!.rows, float8!.columns]), [
    ["scales", 130, 4],
    ["values", 130, 4],
  ]);
  for (const piece of made!) {
    ok("bytes" in piece);
    deepEqual([...new Uint16Array(piece.bytes.buffer)], [...matrix]);
  }
  deepEqual(read!.map((piece) => "bytes" in piece && piece.bytes.byteLength), [8 + 130 * 4]);
});

Deno.test("the first bucket is staged before the servers are paused", async () => {
  let pausedAt = -1;
  const group = deviceGroups();
  await using server = weightsStandIn({
    "POST /pause_generation": () => {
      pausedAt = group.events.length;
      return Response.json({ status: "ok" });
    },
  });
  await using sender = await senderTo(server.url, { openGroup: group.openGroup });
  await sender.updateWeights(weightIterator(() => four));
  ok(pausedAt >= 1);
  equal(group.events[0], "stage 1");
});

Deno.test("memory is staged from where it lies, neighbours as one piece", async () => {
  await using server = weightsStandIn();
  const group = deviceGroups();
  await using sender = await senderTo(server.url, { openGroup: group.openGroup });
  const whole = Float32Array.of(1, 2, 3, 4, 5, 6);
  const device = (address: bigint, count: number) => ({
    device: { address, byteLength: 4 * count },
    dtype: "float32" as const,
    shape: [count],
  });
  const state = {
    a: { data: whole.subarray(0, 2), shape: [2] },
    b: { data: whole.subarray(2, 6), shape: [4] },
    c: device(4096n, 4),
    d: device(4112n, 2),
    e: device(8192n, 1),
  } satisfies StateDict;
  await sender.updateWeights(state);
  const pieces = group.staged[0]![0]!.pieces.map((piece) =>
    "device" in piece ? piece.device : piece.bytes.byteLength
  );
  deepEqual(pieces, [
    24,
    { address: 4096n, byteLength: 24 },
    { address: 8192n, byteLength: 4 },
  ]);
});

Deno.test("float32 goes to the device as it is and is cast there; other types are left", async () => {
  await using server = weightsStandIn();
  const group = deviceGroups();
  await using sender = await senderTo(server.url, {
    openGroup: group.openGroup,
    castFloat32To: "bfloat16",
    flattened: false,
  });
  const wide = Float32Array.of(1.5, -2.25);
  await sender.updateWeights({
    wide: { data: wide, shape: [2] },
    there: { device: { address: 64n, byteLength: 8 }, dtype: "float32", shape: [2] },
    index: { data: BigInt64Array.of(7n), shape: [1] },
  });
  const [parts] = group.staged;
  deepEqual(parts!.map(({ dtype }) => dtype), ["bfloat16", "bfloat16", "int64"]);
  deepEqual(parts!.map(({ pieces }) => pieces[0]!.castFrom), ["float32", "float32", undefined]);
  deepEqual(bytesOf(parts![0]!), [...new Uint8Array(wide.buffer)]);
  const body =
    server.requests.find(({ path }) => path === "/update_weights_from_distributed")!.body;
  deepEqual(body!.dtypes, ["bfloat16", "bfloat16", "int64"]);
});

const onDevice: StateDict = {
  "model.norm.weight": {
    device: { address: 4096n, byteLength: 16 },
    dtype: "float32",
    shape: [4],
  },
};

Deno.test("device memory is refused where it cannot be sent, before the servers are paused", async () => {
  await using server = weightsStandIn();
  const folder = await Deno.makeTempDir();
  const { openGroup } = recordingGroups();
  for (
    const options of [
      { transport: "gloo", openGroup },
      { transport: "gloo", openGroup, castFloat32To: "bfloat16" },
      { transport: "disk", disk: { folder } },
    ] as const
  ) {
    await using sender = await senderTo(server.url, options);
    await rejects(
      sender.updateWeights(onDevice),
      /"model\.norm\.weight" lies in device memory.*(gloo|disk)".*"nccl" or "cuda-ipc"/s,
    );
  }
  equal(server.calls.includes("POST /pause_generation"), false);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a device tensor of another size, without address or type is refused at once", async () => {
  await using server = weightsStandIn();
  await using sender = await senderTo(server.url, { openGroup: deviceGroups().openGroup });
  const base = { dtype: "float32", shape: [4] } as const;
  for (
    const [tensor, reason] of [
      [{ ...base, device: { address: 4096n, byteLength: 12 } }, /takes 16 bytes.*has 12/],
      [{ ...base, device: { address: 0n, byteLength: 16 } }, /no address/],
      [{ ...base, device: { address: 4098n, byteLength: 16 } }, /no address/],
    ] as const
  ) {
    await rejects(sender.updateWeights({ w: tensor }), reason);
  }
});

for (const hang of ["stage 1", "stage 2", "send 1", "send 2"] as const) {
  Deno.test(`a device that hangs at ${hang} ends in time, and so does a cancellation`, async () => {
    for (const isCancelled of [false, true]) {
      using clock = FakeClock.install({ skipUpToMs: 900 });
      using calls = openCalls();
      await using server = weightsStandIn();
      const group = deviceGroups(hang);
      await using sender = await senderTo(server.url, {
        openGroup: group.openGroup,
        bucketBytes: 8,
      });
      const cancel = new AbortController();
      const update = rejects(
        sender.updateWeights(weightIterator(() => four), { signal: cancel.signal }),
        { code: isCancelled ? "aborted" : "weight_sync" },
      );
      // The second bucket is staged before the servers are asked for anything; its hanging is felt
      // once the first has been sent.
      const last = hang === "stage 2" ? "sent 1" : hang;
      await until(() => group.events.includes(hang) && group.events.includes(last));
      // Bytes and their request go out side by side; cancelled is what the server was asked for.
      const asked = "POST /update_weights_from_distributed";
      await until(() => hang === "stage 1" || server.calls.includes(asked));
      if (isCancelled) cancel.abort();
      await clock.pass(update, { ms: STEP_MS, isStuck: () => calls.count === 0 });
      ok(group.events.includes("abort"));
      const { condition, paused } = sender.servers[0]!;
      // Nothing was asked of the server before the first bucket was ready; afterwards this stand-in
      // says that it took a bucket, so that it may hold part of the weights.
      const isWhole = hang === "stage 1";
      if (isWhole) deepEqual({ condition, paused }, { condition: "untouched", paused: false });
      else deepEqual({ condition, paused }, { condition: "partial", paused: true });
    }
  });
}
