import type { DeviceExporter } from "../../../ffi/mod.ts";
import { UnsupportedError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { onAll } from "../fleet.ts";
import { flattenedPayload, namedPayload } from "../ipc/payload.ts";
import type { ResolvedOptions } from "../options.ts";
import type { FleetServer } from "../server.ts";
import { GatheringRing, joinNeighbours } from "../gathering.ts";
import { oneAhead, StagingMemory } from "../staging.ts";
import type { GatheredPart } from "../transport.ts";
import type { Delivery, SyncRun } from "./delivery.ts";
import { loadNative } from "./native.ts";

/** Versions between which servers were seen to read our payload. */
const OLDEST = "0.5.16";
const NEWEST = "0.5.23";

/**
 * Weights through device memory that the servers map: for servers on this host. A bucket is copied
 * to this process's device once; each server is posted the memory's CUDA IPC handle and reads it.
 *
 * Two pieces of device memory are used in turn. A server lets go of one before it answers: the
 * storage that PyTorch maps waits for the server's stream when it is dropped.
 */
export class CudaIpcDelivery implements Delivery {
  readonly transport = "cuda-ipc";
  readonly needsSession = true;
  readonly #options: ResolvedOptions;
  #exporter: DeviceExporter | undefined;
  #memory: StagingMemory | undefined;

  /** Makes it; nothing is opened yet. */
  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  get isConnected(): boolean {
    return this.#exporter !== undefined;
  }

  async prepare(run: SyncRun): Promise<void> {
    await this.connect(run);
  }

  async connect(run: Pick<SyncRun, "servers" | "steps" | "signal">): Promise<void> {
    run.servers.forEach(refuseUnfit);
    if (this.#exporter !== undefined) return;
    const { device, nccl: libraries, logger, deadlines } = this.#options;
    await run.steps.run("init", "open the device", async () => {
      const { DeviceExporter } = await loadNative();
      this.#exporter = await DeviceExporter.open({
        device,
        libraries,
        logger,
        timeoutMs: deadlines.initMs,
        signal: run.signal,
      });
      this.#memory = new StagingMemory(this.#exporter.stagingBuffer.bind(this.#exporter));
    });
  }

  async deliver(run: SyncRun): Promise<void> {
    const exporter = this.#exporter!;
    const stop = new AbortController();
    const ring = new GatheringRing(run.open, this.#memory!, run.buckets);
    const gathered = oneAhead(run.buckets, (bucket) => ring.gather(bucket, stop.signal));
    try {
      for (let i = 0; i < run.buckets.length; i++) {
        const phase = `update bucket ${i + 1} of ${run.buckets.length}`;
        const call = { phase, timeoutMs: this.#options.deadlines.updateMs, signal: run.signal };
        await run.steps.run("update", phase, async () => {
          const { done, value: parts } = await withDeadline(call, () => gathered.next());
          if (!done) await this.#send(exporter, parts, { ...call, run, index: i });
        });
        run.steps.addBytes(run.buckets[i]!.byteLength);
      }
    } finally {
      stop.abort();
    }
  }

  async #send(
    exporter: DeviceExporter,
    parts: readonly GatheredPart[],
    call: {
      readonly phase: string;
      readonly timeoutMs: number;
      readonly signal: AbortSignal | undefined;
      readonly run: SyncRun;
      readonly index: number;
    },
  ): Promise<void> {
    const bucket = call.run.buckets[call.index]!;
    // Tensors that go by name have the same places in the memory as in a flattened bucket.
    const pieces = joinNeighbours(parts.flatMap((part) => part.pieces));
    const memory = await exporter.place(call.index % 2, pieces, call);
    const payload = bucket.flattened
      ? flattenedPayload(bucket.tensors, memory)
      : namedPayload(bucket.tensors, memory);
    const place = {
      isFirst: call.index === 0,
      isLast: call.index === call.run.buckets.length - 1,
    };
    await onAll(
      call.run.servers,
      call,
      (server, signal) =>
        server.taking(place, async () => {
          const forEachRank = Array.from({ length: server.tpSize }, () => payload);
          await server.client.updateWeightsFromTensor(forEachRank, {
            signal,
            loadFormat: bucket.flattened ? "flattened_bucket" : undefined,
          });
        }),
    );
  }

  async reset(): Promise<void> {
    const exporter = this.#exporter;
    this.#exporter = undefined;
    this.#memory = undefined;
    await exporter?.close();
  }

  async abort(): Promise<void> {
    // A server may still be reading: CUDA keeps the memory mapped there until it lets go.
    await this.reset().catch((error: Error) => this.#options.logger.warn(error.message));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reset();
  }
}

function refuseUnfit(server: FleetServer): void {
  const { url, version } = server;
  if (server.isCpu) {
    throw new UnsupportedError(`transport "cuda-ipc" needs servers on a GPU; ${url} has a CPU`);
  }
  const { hostname } = new URL(url);
  if (!/^(127\.|localhost$|\[::1\]$)/.test(hostname)) {
    throw new UnsupportedError(
      `transport "cuda-ipc" needs servers on this host, by a loopback address; ${url} is none. ` +
        `Use transport "nccl"`,
    );
  }
  if (compareVersions(version, OLDEST) >= 0 && compareVersions(version, NEWEST) <= 0) return;
  throw new UnsupportedError(
    `transport "cuda-ipc" writes what SGLang ${OLDEST} to ${NEWEST} read; ${url} runs ${version}. ` +
      `Use transport "nccl"`,
  );
}

/** Compares the first three numbers of two versions. */
function compareVersions(a: string, b: string): number {
  const numbers = (text: string) => (text.match(/\d+/g) ?? []).slice(0, 3).map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] ?? -1) - (right[i] ?? -1);
    if (difference !== 0) return difference;
  }
  return 0;
}
