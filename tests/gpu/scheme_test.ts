/** The sync scheme against a real server: from files, memory and device memory, over NCCL and CUDA IPC. */
import type { GivenOptions, WeightSyncOptions } from "../../src/weights/options.ts";
import { deepEqual, equal } from "node:assert/strict";
import { safetensors } from "../../src/weights/source/mod.ts";
import {
  type SGLangWeightSender,
  SGLangWeightSyncScheme,
  type WeightSyncReport,
} from "../../src/weights/mod.ts";
import { libraries, median, openGroup, record, stderrLogger } from "./support/gpu.ts";
import { Server } from "./support/server.ts";
import { asFloat32, inMemory, onDevice } from "./support/sources.ts";

const server = new Server(Deno.env.get("GPU_SERVER") ?? "http://127.0.0.1:34100");
const folder = Deno.env.get("GPU_MODELS") ?? "/tmp/sglang-rl-gpu/models";
const versions = ["b", "a"] as const;
type Version = (typeof versions)[number];

async function senderOf(options: GivenOptions): Promise<SGLangWeightSender> {
  const { transport = "nccl" } = options;
  const scheme = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    transport,
    // Options of one transport are refused with another.
    ...(transport === "nccl" ? { masterAddress: "127.0.0.1" } : {}),
    nccl: libraries,
    logger: stderrLogger,
    ...options,
  } as WeightSyncOptions);
  const sender = scheme.createSender();
  await sender.initAllWorkersGroup();
  return sender;
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
    const device = (path: string) => onDevice(path, trainer.group);
    const scattered = (path: string) => onDevice(path, trainer.group, { backwards: true });
    const files = (path: string) => Promise.resolve(safetensors(path));
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
        ["ipcCast", asFloat32, {
          transport: "cuda-ipc",
          serversSeeDevice: true,
          castFloat32To: "bfloat16",
        }],
        ["ipcPlain", inMemory, { transport: "cuda-ipc", serversSeeDevice: true, flattened: false }],
      ] as const
    ) {
      await t.step(label, async () => {
        const sources = {
          a: await source(`${folder}/q05b-a`),
          b: await source(`${folder}/q05b-b`),
        };
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
