import type { DeviceExporter } from "../../../ffi/mod.ts";
import type { GatheredPart } from "../../collective/group.ts";
import { UnsupportedError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { hostOf, isLoopback } from "../../internal/hostname.ts";
import { BEYOND_ANY_STEP_MS, onAll } from "../fleet/on_all.ts";
import { flattenedPayload, namedPayload } from "../ipc/payload.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { PlannedBucket } from "../sync/plan.ts";
import { GatheringRing, joinNeighbours } from "./gather.ts";
import { loadNative } from "./nccl.ts";
import { oneAhead, StagingMemory, updatesOf } from "./staging.ts";
import type {
  Transport,
  TransportLink,
  TransportRun,
  TransportServer,
  TransportUpdate,
  UpdateCall,
} from "./transport.ts";

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
export class CudaIpcTransport implements Transport {
  readonly name = "cuda-ipc";
  readonly needsSession = true;
  readonly #options: ResolvedOptions;
  #exporter: DeviceExporter | undefined;
  #memory: StagingMemory | undefined;
  /** Ends the reading of the sync under way. */
  #stop = new AbortController();

  /** Makes it; nothing is opened yet. */
  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  get isConnected(): boolean {
    return this.#exporter !== undefined;
  }

  async prepare(run: TransportRun): Promise<readonly TransportUpdate[]> {
    await this.connect(run);
    const exporter = this.#exporter!;
    const stop = this.#stop = new AbortController();
    const ring = new GatheringRing(run.open, {
      memory: this.#memory!,
      buckets: run.buckets,
      makesFloat8: true,
    });
    const gathered = oneAhead(run.buckets, (bucket) => ring.gather(bucket, stop.signal));
    let turn = 0;
    return updatesOf(run.buckets, async (bucket, call) => {
      const { done, value: parts } = await withDeadline(call, () => gathered.next());
      if (!done) await send(exporter, { bucket, parts, turn: turn++ % 2 }, run.servers, call);
    });
  }

  async connect(run: TransportLink): Promise<void> {
    run.servers.forEach(refuseUnfit);
    if (this.#exporter !== undefined) return;
    const { device, nccl: libraries, logger, deadlines } = this.#options;
    await run.step("init", "open the device", async () => {
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

  async reset(): Promise<void> {
    const exporter = this.#exporter;
    this.#exporter = undefined;
    this.#memory = undefined;
    await exporter?.close();
  }

  async abort(): Promise<void> {
    this.#stop.abort();
    // A server may still be reading: CUDA keeps the memory mapped there until it lets go.
    await this.reset().catch((error: Error) => this.#options.logger.warn(error.message));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reset();
  }
}

/** Places a bucket on the device and lets every server read it there. */
async function send(
  exporter: DeviceExporter,
  ready: {
    readonly bucket: PlannedBucket;
    readonly parts: readonly GatheredPart[];
    readonly turn: number;
  },
  servers: readonly TransportServer[],
  call: UpdateCall,
): Promise<void> {
  const { bucket } = ready;
  // Tensors that go by name have the same places in the memory as in a flattened bucket.
  const pieces = joinNeighbours(ready.parts.flatMap((part) => part.pieces));
  const memory = await exporter.place(ready.turn, pieces, call);
  const payload = bucket.flattened
    ? flattenedPayload(bucket.tensors, memory)
    : namedPayload(bucket.tensors, memory);
  const loadFormat = bucket.flattened ? "flattened_bucket" : undefined;
  await onAll(servers, call, (server, signal) =>
    call.whileUpdating(server, async () => {
      const forEachRank = Array.from({ length: server.tpSize }, () => payload);
      await server.client.updateWeightsFromTensor(forEachRank, {
        signal,
        timeoutMs: BEYOND_ANY_STEP_MS,
        loadFormat,
        selector: server.selector,
        weightVersion: server.ownMark,
      });
    }));
}

function refuseUnfit(server: TransportServer): void {
  const { url, version } = server;
  if (server.isCpu) {
    throw new UnsupportedError(`transport "cuda-ipc" needs servers on a GPU; ${url} has a CPU`);
  }
  if (!isLoopback(hostOf(url))) {
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
