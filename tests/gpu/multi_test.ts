/**
 * One host with several GPUs: rank 0 in this process on GPU 0, torch peers and real SGLang servers on
 * the others, joined by NVLink or what the host has. scripts/gpu/run_multi.sh prepares the machine,
 * starts the servers and runs each test with a time limit of its own.
 */
import { deepEqual, notDeepEqual, ok } from "node:assert/strict";
import { safetensors, type WeightSource } from "../../src/weights/source/mod.ts";
import {
  type SGLangWeightSender,
  SGLangWeightSyncScheme,
  type WeightSyncReport,
} from "../../src/weights/mod.ts";
import {
  allocatedParts,
  libraries,
  median,
  openGroup,
  record,
  stderrLogger,
  timed,
  within,
} from "./support/gpu.ts";
import {
  type FleetMember,
  fleetOf,
  folderOf,
  type ModelKind,
  readState,
  type Reference,
  referenceFromDisk,
  spoil,
} from "./support/multi_fleet.ts";
import { RequestLoad } from "./support/multi_load.ts";
import { TorchPeer } from "./support/peer.ts";
import { inMemory, onDevice } from "./support/sources.ts";

const anyResources = { sanitizeResources: false, sanitizeOps: false };
const MIB = 2 ** 20;
const GIB = 2 ** 30;

const rates = {
  sizes: [64 * MIB, 256 * MIB, GIB, 4 * GIB],
  /** Bytes between two looks at the clock, so that what a wait costs does not count. */
  timedBytes: Number(Deno.env.get("GPU_TIMED_GIB") ?? 32) * GIB,
  repeats: 6,
  singles: 16,
};

/** Sends `times` broadcasts of `count` bytes, waits for the device; milliseconds. */
type Send = (count: number, times: number) => Promise<number>;

Deno.test({
  name: "rates: broadcasts to a torch peer on another GPU, from here and from a Python rank 0",
  ...anyResources,
  async fn() {
    const on = (device: number) => ({ CUDA_VISIBLE_DEVICES: String(device), NCCL_DEBUG: "INFO" });
    const [root, rootsPeer, peer] = await Promise.all([
      TorchPeer.start(on(0), null),
      TorchPeer.start(on(1), null),
      TorchPeer.start(on(1), null),
    ]);
    await using _root = root;
    await using _rootsPeer = rootsPeer;
    await using _peer = peer;
    await using opened = await openGroup();
    const { group, store } = opened;
    const port = 34_000 + Math.floor(Math.random() * 900);
    await Promise.all([
      root.join(port, "python", { rank: 0, world: 2 }),
      rootsPeer.join(port, "python", { rank: 1, world: 2 }),
      peer.join(store.port, group.groupName),
    ]);
    const address = await group.allocateDevice(Math.max(...rates.sizes));

    const dtype = "uint8";
    // The receiver waits for rank 0 before the clock starts, so that its own start does not count.
    const headStart = () => new Promise((resolve) => setTimeout(resolve, 10));
    const python: Send = async (count, times) => {
      const received = rootsPeer.ask({ cmd: "broadcast", dtype, count, times });
      await headStart();
      const sent = await root.ask({ cmd: "broadcast", dtype, count, times });
      await received;
      return sent.seconds! * 1000;
    };
    const deno: Send = async (count, times) => {
      const received = peer.ask({ cmd: "broadcast", dtype, count, times });
      await headStart();
      const tookMs = await timed(() =>
        group.broadcastDevice(allocatedParts(address, { dtype, count, times }), within())
      );
      await received;
      return tookMs;
    };

    const best = { pythonGBs: 0, denoGBs: 0 };
    for (const count of rates.sizes) {
      const times = Math.max(1, Math.round(rates.timedBytes / count));
      const many = await inTurns({ python, deno }, { count, times, repeats: rates.repeats });
      const one = await inTurns({ python, deno }, { count, times: 1, repeats: rates.singles });
      const gbs = (ms: number, sends: number) => Number((count * sends / ms / 1e6).toFixed(1));
      const pythonGBs = gbs(many.python, times);
      const denoGBs = gbs(many.deno, times);
      best.pythonGBs = Math.max(best.pythonGBs, pythonGBs);
      best.denoGBs = Math.max(best.denoGBs, denoGBs);
      record("multi.rates", {
        mib: count / MIB,
        times,
        pythonGBs,
        denoGBs,
        ratio: Number((many.python / many.deno).toFixed(3)),
        onePythonMs: Number(one.python.toFixed(2)),
        oneDenoMs: Number(one.deno.toFixed(2)),
      });
    }
    const share = best.denoGBs / Math.max(best.pythonGBs, best.denoGBs);
    record("multi.rates.best", { ...best, shareOfBest: Number(share.toFixed(3)) });
    await Promise.all([group.close(), peer.ask({ cmd: "destroy" })]);
    await Promise.all([root.ask({ cmd: "destroy" }), rootsPeer.ask({ cmd: "destroy" })]);
  },
});

/** Middle milliseconds of each sender after a warm-up; the senders take turns. */
async function inTurns(
  senders: { readonly python: Send; readonly deno: Send },
  step: { readonly count: number; readonly times: number; readonly repeats: number },
): Promise<{ python: number; deno: number }> {
  const python: number[] = [];
  const deno: number[] = [];
  for (let i = 0; i <= step.repeats; i++) {
    python.push(await senders.python(step.count, step.times));
    deno.push(await senders.deno(step.count, step.times));
  }
  return { python: median(python.slice(1)), deno: median(deno.slice(1)) };
}

const buckets = [64 * MIB, 256 * MIB, GIB];

for (
  const [kind, title, repeats] of [
    ["q05b", "Qwen2.5-0.5B", 4],
    ["q7b", "Qwen2.5-7B", 3],
  ] as const
) {
  Deno.test({
    name: `${kind}: the scheme brings all servers to a checkpoint of ${title}'s shapes`,
    ...anyResources,
    async fn(t) {
      const fleet = await readyFleet(kind);
      const reference = await referenceFromDisk(fleet, folderOf(kind));
      record(`multi.${kind}.disk`, { servers: fleet.length, ms: reference.diskMs });
      await using trainer = await openGroup();
      const steps: [string, () => Promise<WeightSource>][] = [
        ["device", () => onDevice(folderOf(kind), trainer.group)],
        ["files", () => Promise.resolve(safetensors(folderOf(kind)))],
        ["memory", () => inMemory(folderOf(kind))],
      ];
      for (const [label, open] of steps) {
        const source = await open();
        for (const bucketBytes of buckets) {
          await t.step(`from ${label}, buckets of ${bucketBytes / MIB} MiB`, async () => {
            const syncs = await syncSeries({ fleet, reference, source, bucketBytes, repeats });
            record(`multi.${kind}.${label}`, { bucketMiB: bucketBytes / MIB, ...syncs });
          });
        }
      }
    },
  });
}

/** The running servers of a model, once they answer and hold weights of their own. */
async function readyFleet(kind: ModelKind): Promise<FleetMember[]> {
  const fleet = fleetOf(kind);
  await Promise.all(fleet.map(({ server }) => server.ready(150_000)));
  return fleet;
}

async function requireState(fleet: readonly FleetMember[], reference: Reference): Promise<void> {
  const { checksums, tokens } = await readState(fleet);
  deepEqual(checksums, reference.checksums);
  deepEqual(tokens, reference.tokens);
}

/** Syncs through the scheme, each proven against the reference; the last one under load. */
async function syncSeries(options: {
  readonly fleet: readonly FleetMember[];
  readonly reference: Reference;
  readonly source: WeightSource;
  readonly bucketBytes: number;
  readonly repeats: number;
}) {
  const { fleet, reference, source, bucketBytes, repeats } = options;
  const scheme = new SGLangWeightSyncScheme({
    workers: fleet.map(({ server }) => server.url),
    transport: "nccl",
    masterAddress: "127.0.0.1",
    nccl: libraries,
    bucketBytes,
    logger: { ...stderrLogger, debug: () => {} },
  });
  await using sender = scheme.createSender();
  const connectMs = Math.round(await timed(() => sender.initAllWorkersGroup()));
  const reports: TimedReport[] = [];
  for (let i = 0; i <= repeats; i++) {
    await spoil(fleet);
    const spoiled = await Promise.all(fleet.map(({ server }) => server.checksum()));
    notDeepEqual(spoiled, reference.checksums);
    reports.push(await timedSync(sender, source));
    await requireState(fleet, reference);
  }
  const load = await underLoad(fleet[0]!, () => timedSync(sender, source));
  const later = reports.slice(1).sort((a, b) => a.durationMs - b.durationMs);
  const middle = later[Math.floor(later.length / 2)]!;
  return {
    connectMs,
    firstMs: reports[0]!.durationMs,
    totalMs: middle.durationMs,
    pausedMs: middle.pausedMs,
    updateGBs: Number((middle.sizeBytes / middle.phasesMs.update! / 1e6).toFixed(1)),
    phasesMs: middle.phasesMs,
    buckets: middle.buckets,
    totals: reports.map(({ durationMs }) => durationMs),
    load,
  };
}

type TimedReport =
  & Pick<WeightSyncReport, "durationMs" | "sizeBytes" | "buckets" | "phasesMs">
  & {
    /** From the request to pause until the servers were resumed. */
    readonly pausedMs: number;
  };

async function timedSync(sender: SGLangWeightSender, source: WeightSource): Promise<TimedReport> {
  let pauseAtMs: number | undefined;
  const report = await sender.updateWeights(source, {
    onProgress: ({ phase, elapsedMs }) => {
      if (phase === "pause") pauseAtMs ??= elapsedMs;
    },
  });
  ok(pauseAtMs !== undefined);
  const { durationMs, sizeBytes, buckets, phasesMs } = report;
  const rounded = Math.round(durationMs);
  return {
    durationMs: rounded,
    pausedMs: Math.round(durationMs - pauseAtMs),
    sizeBytes,
    buckets,
    phasesMs,
  };
}

/** What a stream of small requests to a server saw while `work` ran. */
async function underLoad(member: FleetMember, work: () => Promise<unknown>) {
  const load = await RequestLoad.start(member.server);
  const tookMs = await timed(work);
  return { tookMs: Math.round(tookMs), ...await load.stop() };
}
