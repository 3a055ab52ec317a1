import { StateError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { GatheringRing } from "../gathering.ts";
import type { PlannedBucket } from "../plan.ts";
import { oneAhead, StagingMemory, StagingRing } from "../staging.ts";
import type { CollectiveGroup, TransportCall } from "../transport.ts";
import type { SyncRun } from "./delivery.ts";
import { refuseDeviceMemory } from "./refuse.ts";

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
  readonly #run: SyncRun;
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
    run: SyncRun,
    group: CollectiveGroup,
    options: { memory: StagingMemory | undefined; timeoutMs: number },
  ) {
    this.#run = run;
    this.#timeoutMs = options.timeoutMs;
    if (!hasDevice(group)) refuseDeviceMemory(run, `transport "${group.backend}"`);
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
  run: SyncRun,
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
  run: SyncRun,
  group: CollectiveGroup,
  memory: StagingMemory,
  signal: AbortSignal,
): AsyncGenerator<ReadyBucket, undefined> {
  const ring = new StagingRing(run.open, memory);
  for await (const { bucket, parts } of ring.stage(run.buckets, signal)) {
    yield { bucket, send: (call) => group.broadcast(parts, call) };
  }
}
