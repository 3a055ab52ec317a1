/** The sync scheme against a real server: from files, memory and device memory, over NCCL and CUDA IPC. */
import { deepEqual, equal } from "node:assert/strict";
import {
  type DeviceTensor,
  safetensors,
  type SGLangWeightSender,
  SGLangWeightSyncScheme,
  stateDict,
  type WeightSource,
  type WeightSyncOptions,
  type WeightSyncReport,
} from "../../src/weights/mod.ts";
import type { NcclGroup } from "../../ffi/mod.ts";
import { libraries, median, openGroup, record, stderrLogger } from "./support/gpu.ts";
import { readHeader, readInto, Server } from "./support/server.ts";

const server = new Server(Deno.env.get("GPU_SERVER") ?? "http://127.0.0.1:34100");
const folder = Deno.env.get("GPU_MODELS") ?? "/tmp/sglang-rl-gpu/models";
const versions = ["b", "a"] as const;
type Version = (typeof versions)[number];

async function senderOf(options: Partial<WeightSyncOptions>): Promise<SGLangWeightSender> {
  const scheme = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    transport: "nccl",
    masterAddress: "127.0.0.1",
    nccl: libraries,
    logger: stderrLogger,
    ...options,
  });
  const sender = scheme.createSender();
  await sender.initAllWorkersGroup();
  return sender;
}

async function load(version: Version) {
  const file = `${folder}/q05b-${version}/model.safetensors`;
  const { tensors, dataOffset, byteLength } = await readHeader(file);
  const bytes = new Uint8Array(byteLength);
  await readInto(file, dataOffset, bytes);
  return { tensors, bytes };
}

/** The checkpoint's tensors in memory. */
async function inMemory(version: Version): Promise<WeightSource> {
  const { tensors, bytes } = await load(version);
  return stateDict(Object.fromEntries(tensors.map((tensor) => [tensor.name, {
    dtype: tensor.dtype,
    shape: tensor.shape,
    data: bytes.subarray(tensor.offset, tensor.offset + tensor.byteLength),
  }])));
}

/** The checkpoint's tensors as float32 whose lower bits a cast to bfloat16 must round off. */
async function asFloat32(version: Version): Promise<WeightSource> {
  const { tensors, bytes } = await load(version);
  return stateDict(Object.fromEntries(tensors.map(({ name, shape, offset, byteLength }) => {
    const halves = new Uint16Array(bytes.buffer, offset, byteLength / 2);
    const words = new Uint32Array(halves.length);
    for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16 | 0x1234;
    return [name, { dtype: "float32", shape, data: words }] as const;
  })));
}

/** The checkpoint's tensors in memory of the GPU that somebody else in this process owns. */
async function onDevice(
  version: Version,
  owner: NcclGroup,
  options: { readonly backwards: boolean },
): Promise<WeightSource> {
  const { tensors, bytes } = await load(version);
  const address = await owner.allocateDevice(bytes.byteLength);
  await owner.copyToDevice(address, bytes);
  const ordered = options.backwards ? tensors.toReversed() : tensors;
  return stateDict(
    Object.fromEntries(ordered.map(({ name, dtype, shape, offset, byteLength }) => {
      const device = { address: address + BigInt(offset), byteLength };
      return [name, { device, dtype, shape } satisfies DeviceTensor];
    })),
  );
}

Deno.test({
  name: "the scheme brings a server to a checkpoint and back, from files and from memory",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await server.ready(200_000);
    const sums = {} as Record<Version, string>;
    const tokens = {} as Record<Version, number[]>;
    for (const version of versions) {
      await server.must("/update_weights_from_disk", { model_path: `${folder}/q05b-${version}` });
      sums[version] = await server.checksum();
      tokens[version] = await server.tokens();
    }
    await using trainer = await openGroup();
    const device = (version: Version) => onDevice(version, trainer.group, { backwards: false });
    const scattered = (version: Version) => onDevice(version, trainer.group, { backwards: true });
    const files = (version: Version) => Promise.resolve(safetensors(`${folder}/q05b-${version}`));
    for (
      const [label, source, options] of [
        ["files", files, {}],
        ["memory", inMemory, {}],
        ["memoryChecksum", inMemory, { verify: "checksum" }],
        ["memoryBuckets256MiB", inMemory, { bucketBytes: 256 * 2 ** 20 }],
        ["memoryPlain", inMemory, { flattened: false }],
        ["device", device, {}],
        ["deviceScattered", scattered, {}],
        ["memoryCast", asFloat32, { castFloat32To: "bfloat16" }],
        ["ipcDevice", device, { transport: "cuda-ipc", serversSeeDevice: true }],
        ["ipcMemory", inMemory, { transport: "cuda-ipc", serversSeeDevice: true }],
        ["ipcFiles", files, {
          transport: "cuda-ipc",
          serversSeeDevice: true,
          bucketBytes: 256 * 2 ** 20,
        }],
        ["ipcPlain", inMemory, { transport: "cuda-ipc", serversSeeDevice: true, flattened: false }],
      ] as const
    ) {
      await t.step(label, async () => {
        const sources = { a: await source("a"), b: await source("b") };
        await using sender = await senderOf(options);
        const reports: WeightSyncReport[] = [];
        for (let i = 0; i < 6; i++) {
          const version = versions[i % 2]!;
          reports.push(await sender.updateWeights(sources[version]));
          equal(await server.checksum(), sums[version]);
          if (i > 3) deepEqual(await server.tokens(), tokens[version]);
        }
        const allMs = reports.map(({ durationMs }) => Math.round(durationMs));
        const later = reports.slice(1);
        const middle = later.toSorted((x, y) => x.durationMs - y.durationMs)[later.length >> 1]!;
        record(`scheme.${label}`, {
          firstMs: allMs[0],
          medianMs: median(allMs.slice(1)),
          medianPausedMs: Math.round(median(later.map(({ pausedMs }) => pausedMs))),
          phasesMs: middle.phasesMs,
          allMs,
        });
      });
    }
  },
});
