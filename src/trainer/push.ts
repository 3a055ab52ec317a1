import type { TensorInfo } from "../checkpoint/dtype.ts";
import type { DeviceMemory } from "../collective/group.ts";
import { isSGLangError, WeightSyncError } from "../errors.ts";
import { asError } from "../internal/thrown.ts";
import type { SyncProgress } from "../weights/mod.ts";
import type { OpenWeightSource, WeightSource } from "../weights/source/mod.ts";
import { noteBroadcaster } from "./broadcast.ts";
import type { TrainerConnection } from "./connection.ts";
import type { PushedAdapter, PushOffer } from "./push_offer.ts";
import type { MemoryMapper, OpenMaps } from "./device_maps.ts";
import type { TrainerWay } from "./greeting.ts";

/** How many tensors are asked for ahead of the one that comes. */
const READS_AT_ONCE = 32;

/** What a trainer is told of weights that every server has. */
export interface PushResult {
  /** The version that the servers now have. */
  readonly version: string;
  /** Milliseconds that the sync took. */
  readonly durationMs?: number | undefined;
  /** Milliseconds of these in which the servers were paused. */
  readonly pausedMs?: number | undefined;
  /** Bytes that were sent. */
  readonly sizeBytes?: number | undefined;
}

/**
 * Weights that a trainer wants to hand over. It waits until {@linkcode TrainerPush.done} or
 * {@linkcode TrainerPush.failed} is called, and leaves its tensors unchanged until then.
 */
export class TrainerPush {
  /** What the trainer calls itself. */
  readonly trainer: string;
  /** How the bytes travel. */
  readonly way: TrainerWay;
  /** The trainer's name for these weights; `undefined` leaves it to the sync. */
  readonly version: string | undefined;
  /** Whole weights, or a LoRA adapter, whose names are PEFT's. */
  readonly kind: "weights" | "adapter";
  /** Of an adapter: its name and its `adapter_config.json`. */
  readonly adapter: PushedAdapter | undefined;
  /** Every tensor, in the trainer's order. */
  readonly tensors: readonly TensorInfo[];
  /** The weights, for `updateWeights()`; can be opened until the push is settled. */
  readonly source: WeightSource;
  readonly #connection: TrainerConnection;
  readonly #id: number;
  #isSettled = false;

  /** Made by `TrainerLink`. @internal */
  constructor(
    connection: TrainerConnection,
    offer: PushOffer,
    openMapper: () => Promise<MemoryMapper>,
  ) {
    this.#connection = connection;
    this.#id = offer.id;
    this.trainer = connection.name;
    this.way = connection.way;
    this.version = offer.version ?? undefined;
    this.kind = offer.kind;
    this.adapter = offer.adapter;
    this.tensors = offer.tensors;
    const label = `push ${offer.id} of trainer ${connection.name}`;
    this.source = {
      label,
      async open({ signal } = {}) {
        signal?.throwIfAborted();
        connection.progress(offer.id, "source");
        const { memory } = offer;
        const maps = memory && await connection.maps.open(await openMapper(), memory, signal);
        return new OpenPush(connection, offer, maps);
      },
    };
    if (connection.way === "broadcast") noteBroadcaster(this.source, connection);
  }

  /** Fires when the trainer is gone, with the reason. */
  get gone(): AbortSignal {
    return this.#connection.ended;
  }

  /** Whether the trainer has been told how it ended. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** Tells the trainer what is being done; to be given to `updateWeights()` as `onProgress`. */
  readonly onProgress = (progress: SyncProgress): void => {
    // What failed before is what the trainer shall read, not the cleaning up after it.
    if (progress.phase !== "recover") this.#connection.progress(this.#id, progress.message);
  };

  /** Lets the trainer go on: the servers have its weights. Does nothing when it is gone. */
  async done(result: PushResult): Promise<void> {
    const { version, durationMs, pausedMs, sizeBytes } = result;
    await this.#settle({ type: "done", version, durationMs, pausedMs, sizeBytes });
  }

  /** Lets the trainer go on with an error of the same words. Does nothing when it is gone. */
  async failed(error: unknown): Promise<void> {
    const { message } = asError(error);
    const of = error instanceof WeightSyncError ? error : undefined;
    await this.#settle({
      type: "failed",
      code: isSGLangError(error) ? error.code : "other",
      message,
      phase: of?.phase ?? null,
      step: of?.step ?? null,
      server: of?.server ?? null,
    });
  }

  async #settle(outcome: object): Promise<void> {
    if (this.#isSettled) return;
    this.#isSettled = true;
    await this.#connection.settle(this.#id, outcome).catch(() => {});
  }
}

class OpenPush implements OpenWeightSource {
  readonly tensors: readonly TensorInfo[];
  readonly readsAtOnce = READS_AT_ONCE;
  readonly isSentElsewhere: boolean;
  readonly #connection: TrainerConnection;
  readonly #id: number;
  readonly #maps: OpenMaps | undefined;

  constructor(connection: TrainerConnection, offer: PushOffer, maps: OpenMaps | undefined) {
    this.#connection = connection;
    this.#id = offer.id;
    this.#maps = maps;
    this.tensors = offer.tensors;
    this.isSentElsewhere = connection.way === "broadcast";
  }

  view(): undefined {
    return undefined;
  }

  device(index: number): readonly DeviceMemory[] | undefined {
    return this.#maps?.at(index);
  }

  async read(
    index: number,
    target: Uint8Array,
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    await this.#connection.fetch(this.#id, index, target, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#maps?.[Symbol.asyncDispose]();
  }
}
