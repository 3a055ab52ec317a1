import type {
  BroadcastPart,
  CollectiveGroup,
  FindWord,
  TransportCall,
} from "../../collective/group.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { readAll } from "../source/read_all.ts";
import { type OpenWeightSource, refuseDeviceMemory } from "../source/source.ts";
import { DEFAULT_BUCKET_BYTES, type PlannedBucket } from "../sync/plan.ts";
import { GatheringRing } from "./gather.ts";
import { SharedFeed } from "./shared_feed.ts";
import type { TransportRun, TransportServer, TransportUpdate, UpdateCall } from "./transport.ts";

/** A bucket whose bytes are ready to be sent. */
export interface StagedBucket {
  /** What it holds. */
  readonly bucket: PlannedBucket;
  /** Its broadcasts, in wire order. */
  readonly parts: readonly BroadcastPart[];
}

/** Where staging buffers come from. */
export type AllocateStaging = (byteLength: number) => Uint8Array;

/**
 * The two buffers of a {@linkcode StagingRing}. Pinning memory takes longer than sending it, so a
 * group that has memory of its own keeps them from sync to sync.
 */
export class StagingMemory {
  readonly #allocate: AllocateStaging;
  readonly #buffers: (Uint8Array | undefined)[] = [undefined, undefined];

  /** Takes nothing until it is needed. */
  constructor(allocate: AllocateStaging = (byteLength) => new Uint8Array(byteLength)) {
    this.#allocate = allocate;
  }

  /** The buffer of a turn, 0 or 1, which holds at least `byteLength` bytes. */
  buffer(turn: number, byteLength: number): Uint8Array {
    const current = this.#buffers[turn];
    if (current !== undefined && current.byteLength >= byteLength) return current;
    return this.#buffers[turn] = this.#allocate(byteLength);
  }
}

/**
 * Makes something of each item in order, the next while the last is in use; never more than that
 * one ahead.
 */
export async function* oneAhead<Item, Made>(
  items: readonly Item[],
  make: (item: Item) => Promise<Made>,
): AsyncGenerator<Made, undefined> {
  let next = items.length > 0 ? make(items[0]!) : undefined;
  for (let i = 0; i < items.length; i++) {
    const made = await next!;
    if (i + 1 < items.length) {
      next = make(items[i + 1]!);
      // Whoever asks for it sees the failure; until then it must not count as unhandled.
      next.catch(() => {});
    }
    yield made;
  }
}

/**
 * Reads buckets into two buffers in turn, so that the next one is read while the last is sent.
 * Tensors that lie in memory and travel alone are sent from where they are.
 */
export class StagingRing {
  readonly #source: OpenWeightSource;
  readonly #memory: StagingMemory;
  readonly #largestBytes: number;
  #turn = 0;

  /** Makes a ring over an open source, for just these buckets. */
  constructor(
    source: OpenWeightSource,
    memory: StagingMemory,
    buckets: readonly PlannedBucket[],
  ) {
    this.#source = source;
    this.#memory = memory;
    this.#largestBytes = buckets.reduce((most, bucket) => Math.max(most, bucket.byteLength), 0);
  }

  /** Reads a bucket, which stays valid until the next call but one. */
  async read(bucket: PlannedBucket, signal: AbortSignal): Promise<StagedBucket> {
    return bucket.flattened
      ? { bucket, parts: [await this.#flatten(bucket, signal)] }
      : { bucket, parts: await this.#separate(bucket, signal) };
  }

  async #flatten(bucket: PlannedBucket, signal: AbortSignal): Promise<BroadcastPart> {
    const only = bucket.tensors.length === 1 ? bucket.tensors[0] : undefined;
    const inPlace = only && this.#source.view(only.sourceIndex);
    if (inPlace) return { bytes: inPlace, dtype: "uint8" };
    const bytes = this.#buffer(bucket.byteLength);
    await this.#fill(bucket, bytes, signal);
    return { bytes, dtype: "uint8" };
  }

  async #separate(bucket: PlannedBucket, signal: AbortSignal): Promise<BroadcastPart[]> {
    const views = bucket.tensors.map(({ sourceIndex }) => this.#source.view(sourceIndex));
    if (views.every((view) => view !== undefined)) {
      return views.map((bytes, i) => ({ bytes, dtype: bucket.tensors[i]!.dtype }));
    }
    const bytes = this.#buffer(bucket.byteLength);
    await this.#fill(bucket, bytes, signal);
    return bucket.tensors.map(({ offset, sizeBytes, dtype }) => ({
      bytes: bytes.subarray(offset, offset + sizeBytes),
      dtype,
    }));
  }

  async #fill(bucket: PlannedBucket, target: Uint8Array, signal: AbortSignal): Promise<void> {
    const source = this.#source;
    const reads = bucket.tensors.map(({ sourceIndex: index, offset, sizeBytes }) => ({
      source,
      index,
      target: target.subarray(offset, offset + sizeBytes),
    }));
    await readAll(reads, { atOnce: source.readsAtOnce, signal });
  }

  #buffer(byteLength: number): Uint8Array {
    this.#turn = 1 - this.#turn;
    return this.#memory.buffer(this.#turn, this.#largestBytes).subarray(0, byteLength);
  }
}

/** Parts of a bucket where groups send them from: the device, or this process's memory. */
export interface ReadyBucket {
  /** What it holds. */
  readonly bucket: PlannedBucket;
  /** Broadcasts it in a group. */
  send(group: CollectiveGroup, call: TransportCall): Promise<void>;
}

/** The buckets of one sync, for several servers that each take all of them. */
export type ReadyBuckets = Pick<
  SharedFeed<ReadyBucket, TransportServer>,
  "begin" | "take" | "done" | "leave" | "stop"
>;

/** Brings parts together on the device, for one group or for several of the same device. */
export type DeviceStaging =
  & Required<Pick<CollectiveGroup, "stage">>
  & Pick<CollectiveGroup, "stagingSlots" | "makesFloat8">
  & { readonly findWord?: FindWord };

/** What a {@linkcode BucketFeed} reads with. */
export interface FeedOptions {
  /** The device's staging, where groups send from a device. */
  readonly device: DeviceStaging | undefined;
  /** Staging memory that lives longer than one sync. */
  readonly memory: StagingMemory | undefined;
  /** Longest wait for the first bucket, while the servers still generate. */
  readonly firstMs: number;
  /** Longest wait for {@linkcode DEFAULT_BUCKET_BYTES} of a later bucket, or less. */
  readonly readMs: number;
}

/**
 * The buckets of one sync, each read from its source once, and brought to the device where there is
 * one, while those before are sent. At most two are held at a time, or as many as the device's
 * staging holds.
 */
export class BucketFeed extends SharedFeed<ReadyBucket, TransportServer> {
  readonly #stop: AbortController;

  /** Makes a feed; nothing is read yet. */
  constructor(run: TransportRun, options: FeedOptions) {
    const stop = new AbortController();
    const { device } = options;
    const memory = options.memory ?? new StagingMemory();
    const read = device !== undefined
      ? fromDevice(run, device, memory, stop.signal)
      : fromHost(run, memory, stop.signal);
    super(run.buckets.length, run.servers, (index) => {
      const bucket = run.buckets[index]!;
      const share = Math.max(1, bucket.byteLength / DEFAULT_BUCKET_BYTES);
      const wait = {
        phase: `read for update bucket ${index + 1} of ${run.buckets.length}`,
        timeoutMs: index === 0 ? options.firstMs : Math.ceil(options.readMs * share),
        signal: run.signal,
        peer: run.source.label,
      };
      return withDeadline(wait, () => read(bucket));
    }, device?.stagingSlots);
    this.#stop = stop;
  }

  /** Ends reading ahead. */
  override stop(reason: Error): void {
    this.#stop.abort(reason);
    super.stop(reason);
  }
}

function fromDevice(
  run: TransportRun,
  device: DeviceStaging,
  memory: StagingMemory,
  signal: AbortSignal,
): (bucket: PlannedBucket) => Promise<ReadyBucket> {
  const { makesFloat8 = false } = device;
  const ring = new GatheringRing(run.open, { memory, buckets: run.buckets, makesFloat8 });
  return async (bucket) => {
    const parts = await device.stage(await ring.gather(bucket, signal), { signal });
    return { bucket, send: (group, call) => group.broadcastDevice!(parts, call) };
  };
}

function fromHost(
  run: TransportRun,
  memory: StagingMemory,
  signal: AbortSignal,
): (bucket: PlannedBucket) => Promise<ReadyBucket> {
  const ring = new StagingRing(run.open, memory, run.buckets);
  return async (bucket) => {
    const { parts } = await ring.read(bucket, signal);
    return { bucket, send: (group, call) => group.broadcast(parts, call) };
  };
}

/**
 * The buckets of a sync in order, each ready to be sent, the next one read meanwhile: for transports
 * that read the weights in this process. A bucket stays valid until the next but one is asked for.
 *
 * @throws {UnsupportedError} Weights lie in memory of a GPU.
 */
export function stageBuckets(
  run: Pick<TransportRun, "open" | "buckets" | "signal">,
): AsyncGenerator<StagedBucket, undefined> {
  refuseDeviceMemory(run.open, "this transport");
  const signal = run.signal ?? new AbortController().signal;
  const ring = new StagingRing(run.open, new StagingMemory(), run.buckets);
  return oneAhead(run.buckets, (bucket) => ring.read(bucket, signal));
}

/** One update for each bucket. */
export function updatesOf(
  buckets: readonly PlannedBucket[],
  send: (bucket: PlannedBucket, call: UpdateCall, index: number) => Promise<void>,
): TransportUpdate[] {
  return buckets.map((bucket, i) => ({
    message: `update bucket ${i + 1} of ${buckets.length}`,
    byteLength: bucket.byteLength,
    send: (call) => send(bucket, call, i),
  }));
}
