import type { BroadcastPart, CollectiveGroup, TransportCall } from "../../collective/group.ts";
import { StateError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { readAll } from "../source/read_all.ts";
import { type OpenWeightSource, refuseDeviceMemory } from "../source/source.ts";
import type { PlannedBucket } from "../sync/plan.ts";
import { GatheringRing } from "./gather.ts";
import type { TransportRun, TransportUpdate, UpdateCall } from "./transport.ts";

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
  #largestBytes = 0;
  #turn = 0;

  /** Makes a ring over an open source. */
  constructor(source: OpenWeightSource, memory: StagingMemory = new StagingMemory()) {
    this.#source = source;
    this.#memory = memory;
  }

  /**
   * Yields the buckets in order, each ready to be sent. A yielded bucket stays valid until the next
   * but one is asked for.
   */
  stage(
    buckets: readonly PlannedBucket[],
    signal: AbortSignal,
  ): AsyncGenerator<StagedBucket, undefined> {
    this.#largestBytes = buckets.reduce((most, bucket) => Math.max(most, bucket.byteLength), 0);
    return oneAhead(buckets, (bucket) => this.#read(bucket, signal));
  }

  async #read(bucket: PlannedBucket, signal: AbortSignal): Promise<StagedBucket> {
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

/** A bucket that waits for nothing but its broadcast. */
export interface ReadyBucket {
  /** What it holds. */
  readonly bucket: PlannedBucket;
  /** Broadcasts it. */
  send(call: TransportCall): Promise<void>;
}

/**
 * The buckets of one sync, each read from its source, and brought to the device where there is one,
 * while the one before is sent. At most two are held at a time.
 */
export class BucketFeed {
  readonly #run: TransportRun;
  readonly #timeoutMs: number;
  readonly #stop = new AbortController();
  readonly #ready: AsyncGenerator<ReadyBucket, undefined>;
  #first: Promise<ReadyBucket> | undefined;
  #count = 0;

  /**
   * Makes a feed; nothing is read yet.
   *
   * @param options `memory`: the group's staging memory, when it has such. `timeoutMs`: longest wait
   * for a bucket.
   * @throws {UnsupportedError} Weights lie in device memory and the group cannot send from there.
   */
  constructor(
    run: TransportRun,
    group: CollectiveGroup,
    options: { memory: StagingMemory | undefined; timeoutMs: number },
  ) {
    this.#run = run;
    this.#timeoutMs = options.timeoutMs;
    if (!hasDevice(group)) refuseDeviceMemory(run.open, `transport "${group.backend}"`);
    const memory = options.memory ?? new StagingMemory();
    const { signal } = this.#stop;
    this.#ready = hasDevice(group)
      ? fromDevice(run, group, memory, signal)
      : fromHost(run, group, memory, signal);
  }

  /** Gets the first bucket ready, and lets the second follow. */
  async begin(): Promise<void> {
    if (this.#run.buckets.length === 0) return;
    this.#first = this.#next();
    await this.#first;
  }

  /** The next bucket; its predecessor must have been sent. */
  next(): Promise<ReadyBucket> {
    const first = this.#first;
    this.#first = undefined;
    return first ?? this.#next();
  }

  /** Ends reading ahead. */
  stop(reason: Error): void {
    this.#stop.abort(reason);
  }

  async #next(): Promise<ReadyBucket> {
    const { buckets, source, signal } = this.#run;
    const wait = {
      phase: `read for update bucket ${++this.#count} of ${buckets.length}`,
      timeoutMs: this.#timeoutMs,
      signal,
      peer: source.label,
    };
    const { done, value } = await withDeadline(wait, () => this.#ready.next());
    if (done) throw new StateError("The source ended before its last bucket");
    return value;
  }
}

type DeviceGroup = CollectiveGroup & Required<Pick<CollectiveGroup, "stage" | "broadcastDevice">>;

function hasDevice(group: CollectiveGroup): group is DeviceGroup {
  return group.stage !== undefined && group.broadcastDevice !== undefined;
}

function fromDevice(
  run: TransportRun,
  group: DeviceGroup,
  memory: StagingMemory,
  signal: AbortSignal,
): AsyncGenerator<ReadyBucket, undefined> {
  const ring = new GatheringRing(run.open, memory, run.buckets);
  return oneAhead(run.buckets, async (bucket) => {
    const gathered = await ring.gather(bucket, signal);
    const parts = await group.stage(gathered, { signal });
    return { bucket, send: (call) => group.broadcastDevice(parts, call) };
  });
}

async function* fromHost(
  run: TransportRun,
  group: CollectiveGroup,
  memory: StagingMemory,
  signal: AbortSignal,
): AsyncGenerator<ReadyBucket, undefined> {
  const ring = new StagingRing(run.open, memory);
  for await (const { bucket, parts } of ring.stage(run.buckets, signal)) {
    yield { bucket, send: (call) => group.broadcast(parts, call) };
  }
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
  return new StagingRing(run.open).stage(run.buckets, signal);
}

/** One update for each bucket. */
export function updatesOf(
  buckets: readonly PlannedBucket[],
  send: (bucket: PlannedBucket, call: UpdateCall) => Promise<void>,
): TransportUpdate[] {
  return buckets.map((bucket, i) => ({
    message: `update bucket ${i + 1} of ${buckets.length}`,
    byteLength: bucket.byteLength,
    send: (call) => send(bucket, call),
  }));
}
