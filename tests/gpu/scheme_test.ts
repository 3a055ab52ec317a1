/** The sync scheme against a real server: new weights from a checkpoint's folder, over NCCL and CUDA IPC. */
import { deepEqual, equal } from "node:assert/strict";
import {
  safetensors,
  type SGLangWeightSender,
  SGLangWeightSyncScheme,
  stateDict,
  type WeightSource,
  type WeightSyncOptions,
} from "../../src/weights/mod.ts";
import { libraries, median, record, stderrLogger, timed } from "./support/gpu.ts";
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

/** The checkpoint's tensors in memory. */
async function inMemory(version: Version): Promise<WeightSource> {
  const file = `${folder}/q05b-${version}/model.safetensors`;
  const { tensors, dataOffset, byteLength } = await readHeader(file);
  const bytes = new Uint8Array(byteLength);
  await readInto(file, dataOffset, bytes);
  return stateDict(Object.fromEntries(tensors.map((tensor) => [tensor.name, {
    dtype: tensor.dtype,
    shape: tensor.shape,
    data: bytes.subarray(tensor.offset, tensor.offset + tensor.byteLength),
  }])));
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
    const files = (version: Version) => Promise.resolve(safetensors(`${folder}/q05b-${version}`));
    for (
      const [label, source, options] of [
        ["files", files, {}],
        ["memory", inMemory, {}],
        ["memoryChecksum", inMemory, { verify: "checksum" }],
        ["memoryBuckets256MiB", inMemory, { bucketBytes: 256 * 2 ** 20 }],
        ["memoryPlain", inMemory, { flattened: false }],
        ["ipcMemory", inMemory, { transport: "cuda-ipc" }],
        ["ipcFiles", files, { transport: "cuda-ipc", bucketBytes: 256 * 2 ** 20 }],
        ["ipcPlain", inMemory, { transport: "cuda-ipc", flattened: false }],
      ] as const
    ) {
      await t.step(label, async () => {
        const sources = { a: await source("a"), b: await source("b") };
        await using sender = await senderOf(options);
        const allMs: number[] = [];
        for (let i = 0; i < 6; i++) {
          const version = versions[i % 2]!;
          allMs.push(Math.round(await timed(() => sender.updateWeights(sources[version]))));
          equal(await server.checksum(), sums[version]);
          if (i > 3) deepEqual(await server.tokens(), tokens[version]);
        }
        record(`scheme.${label}`, { firstMs: allMs[0], medianMs: median(allMs.slice(1)), allMs });
      });
    }
  },
});
