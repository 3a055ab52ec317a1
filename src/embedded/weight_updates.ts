/**
 * Weight updates as the real server does them: sessions, groups, disk, versions, and what happens
 * when the cache cannot be flushed.
 */
import type { DType } from "../checkpoint/mod.ts";
import { StateError } from "../errors.ts";
import { withDeadline } from "../internal/deadline.ts";
import { Semaphore } from "../internal/semaphore.ts";
import type { Misload } from "./faults.ts";
import { readTensors } from "./load.ts";
import { readableDTypes, type Tensor } from "./model/weights.ts";
import type { EmbeddedState } from "./state.ts";
import {
  groupForOtherDevice,
  type JoinGroup,
  type JoinOptions,
  type WeightGroup,
} from "./weight_group.ts";
import { messageOf } from "../internal/thrown.ts";

/** How an update ended; `success: false` is answered with 400. */
export interface UpdateResult {
  readonly success: boolean;
  readonly message: string;
}

/** What every update says besides its tensors. */
export interface UpdateCommon {
  readonly flushCache: boolean;
  readonly abortAll: boolean;
  readonly weightVersion: string | null;
}

/** A distributed update. */
export interface DistributedUpdate extends UpdateCommon {
  readonly groupName: string;
  readonly names: readonly string[];
  readonly dtypes: readonly string[];
  readonly shapes: readonly (readonly number[])[];
  readonly bucket: boolean;
}

/** Sizes of torch's types: these arrive, though not all can be loaded. */
const sizes: Readonly<Record<string, number>> = {
  ...readableDTypes,
  ...{ uint8: 1, int8: 1, bool: 1, int16: 2, int32: 4, int64: 8 },
};

const notFlushed =
  "Weights were updated, but the cache was not flushed because requests are still running or " +
  "queued. Retract or finish them, then call /flush_cache.";

/** Weight sessions, groups and loading of one server. */
export class WeightUpdates {
  readonly #state: EmbeddedState;
  readonly #join: JoinGroup;
  readonly #groups = new Map<string, WeightGroup>();
  readonly #closing = new AbortController();
  /** The scheduler: it does one thing after the other, and waits in a join or a broadcast. */
  readonly #scheduler = new Semaphore(1);
  readonly #timeoutMs: number;
  #session = false;

  constructor(state: EmbeddedState, options: { join: JoinGroup; timeoutMs: number }) {
    this.#state = state;
    this.#join = options.join;
    this.#timeoutMs = options.timeoutMs;
  }

  /** `/init_weights_update_group`. */
  async init(options: Omit<JoinOptions, "signal"> & { backend: string }): Promise<UpdateResult> {
    const { groupName, backend } = options;
    const failed = (reason: string) =>
      failure(`Failed to initialize custom process group: ${reason}.`);
    const isForOthers = backend === "cuda:gloo" && options.worldSize === 1 && options.rank === 0;
    if (backend !== "gloo" && !isForOthers) {
      return failed(`this embedded server is a test double and knows "gloo", not "${backend}"`);
    }
    using _ = await this.inTurn();
    if (this.#groups.has(groupName)) {
      return failed(
        "The specified group name has already been created, please use a different group name",
      );
    }
    try {
      const group = isForOthers ? groupForOtherDevice() : await this.#wait(
        `join group ${groupName}`,
        (signal) => this.#join({ ...options, signal }),
      );
      this.#groups.set(groupName, group);
      return success("Succeeded to initialize custom process group.");
    } catch (error) {
      return failed(messageOf(error));
    }
  }

  /** `/destroy_weights_update_group`. */
  async destroy(groupName: string): Promise<UpdateResult> {
    using _ = await this.inTurn();
    const group = this.#groups.get(groupName);
    if (group === undefined) return failure("The group to be destroyed does not exist.");
    this.#groups.delete(groupName);
    await group.close();
    return success("Succeeded to destroy custom process group.");
  }

  /** `/begin_weight_update`. */
  async begin(): Promise<UpdateResult> {
    using _ = await this.#writer();
    using _turn = await this.inTurn();
    if (this.#session) {
      return failure("a weight-update session is already open; call end_weight_update() first");
    }
    this.#session = true;
    return success("Success");
  }

  /** `/end_weight_update`. */
  async end(): Promise<UpdateResult> {
    using _ = await this.#writer();
    using _turn = await this.inTurn();
    if (!this.#session) {
      return failure("no weight-update session is open; call begin_weight_update() first");
    }
    this.#session = false;
    return success("Success");
  }

  /** `/update_weights_from_distributed`. */
  async distributed(update: DistributedUpdate): Promise<UpdateResult> {
    const { needsSession } = this.#state.emulated;
    if (this.#state.faults.take("refuseUpdates")) return failure("refused: refuseUpdates is set");
    if (update.abortAll) this.#state.scheduler.abort(() => true);
    using _ = await this.#writer();
    using _turn = await this.inTurn();
    if (needsSession && !this.#session) {
      return failure(
        "update_weights_from_distributed must run between begin_weight_update() and " +
          "end_weight_update()",
      );
    }
    const group = this.#groups.get(update.groupName);
    if (group === undefined && !needsSession) {
      this.#state.crash(`update for the unknown group ${update.groupName}`);
    }
    let tensors: Tensor[];
    try {
      tensors = await this.#receive(update, group);
    } catch (error) {
      return failure(
        needsSession
          ? `Failed to receive weights: ${messageOf(error)}`
          : partiallyUpdated(messageOf(error)),
      );
    }
    return this.#load(tensors, update, "Succeeded to update parameter online.");
  }

  /** `/update_weights_from_disk`. */
  async disk(update: UpdateCommon & { modelPath: string }): Promise<UpdateResult> {
    if (this.#state.faults.take("refuseUpdates")) return failure("refused: refuseUpdates is set");
    if (update.abortAll) this.#state.scheduler.abort(() => true);
    using _ = await this.#writer();
    using _turn = await this.inTurn();
    const tensors: Tensor[] = [];
    try {
      for await (const tensor of readTensors(update.modelPath)) tensors.push(tensor);
    } catch (error) {
      return failure(`Failed to get weights iterator: ${messageOf(error)}.`);
    }
    const result = this.#load(tensors, update, "Succeeded to update model weights.");
    if (result.success) this.#state.modelPath = update.modelPath;
    return result;
  }

  /** Waits until the scheduler is free; it is held until the permit is disposed. */
  inTurn(): Promise<Disposable> {
    return this.#scheduler.acquire(this.#closing.signal);
  }

  /** Leaves every group and ends waits. */
  async close(): Promise<void> {
    this.#closing.abort(new StateError("The embedded server is closing"));
    await Promise.all([...this.#groups.values()].map((group) => group.close()));
    this.#groups.clear();
  }

  /** Paused servers update at once; others wait for the requests in work and hold new ones back. */
  async #writer(): Promise<Disposable> {
    if (this.#state.scheduler.paused) return { [Symbol.dispose]() {} };
    return await this.#state.lock.enterWriter();
  }

  async #receive(update: DistributedUpdate, group: WeightGroup | undefined): Promise<Tensor[]> {
    if (group === undefined) {
      throw new Error(
        `Group ${update.groupName} not in [${[...this.#groups.keys()].join(", ")}]. Please call ` +
          "`init_weights_update_group` first.",
      );
    }
    const infos = tensorsOf(update);
    return update.bucket
      ? await this.#receiveBucket(infos, group)
      : await this.#receivePlain(infos, group);
  }

  async #receivePlain(infos: readonly Sized[], group: WeightGroup): Promise<Tensor[]> {
    const tensors: Tensor[] = [];
    for (const info of infos) {
      tensors.push({ ...info, bytes: await this.#broadcast(group, info.byteLength) });
    }
    return tensors;
  }

  async #receiveBucket(infos: readonly Sized[], group: WeightGroup): Promise<Tensor[]> {
    if (infos.length === 0) throw new Error("Cannot create empty tensor bucket");
    let total = 0;
    for (const { name, dtype, byteLength, itemSize } of infos) {
      if (this.#state.emulated.needsSession && total % itemSize !== 0) {
        throw new Error(
          `Unaligned received tensor ${name}: byte offset ${total}, dtype torch.${dtype}`,
        );
      }
      total += byteLength;
    }
    const bytes = await this.#broadcast(group, total);
    let at = 0;
    return infos.map((info) => {
      const from = at;
      at += info.byteLength;
      return { ...info, bytes: bytes.subarray(from, at) };
    });
  }

  #broadcast(group: WeightGroup, byteLength: number): Promise<Uint8Array> {
    return this.#wait("receive weights", (signal) => group.receive(byteLength, { signal }));
  }

  #wait<T>(phase: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const options = { phase, timeoutMs: this.#timeoutMs, signal: this.#closing.signal };
    return withDeadline(options, work);
  }

  /** Loads between two steps of generation, so that every token is of one version. */
  #load(tensors: readonly Tensor[], update: UpdateCommon, done: string): UpdateResult {
    const { model, scheduler, emulated } = this.#state;
    try {
      const { misloadUpdates } = this.#state.faults.current;
      for (const tensor of misloaded(tensors, misloadUpdates)) model.weights.load(tensor);
    } catch (error) {
      return failure(partiallyUpdated(messageOf(error)));
    }
    const label = update.weightVersion;
    if (label !== null) scheduler.weightVersion = label;
    if (update.flushCache) {
      const ignoreQueueWhenPaused = emulated.flushesWhenRetracted;
      if (!scheduler.canFlush({ ignoreQueueWhenPaused })) {
        if (emulated.diesOfBusyFlush) {
          this.#state.crash("Cache flush failed after updating weights");
        }
        return failure(notFlushed);
      }
      scheduler.flush();
    }
    return success(label === null ? done : `${done} Weight version updated to ${label}.`);
  }
}

/** The tensors as a server that loads wrongly has them. */
function misloaded(tensors: readonly Tensor[], how: Misload | undefined): readonly Tensor[] {
  if (how === undefined) return tensors;
  if (how === "skip") return [];
  if (how === "flip") {
    return tensors.map((tensor) => {
      const bytes = tensor.bytes.slice();
      const high = (sizes[tensor.dtype] ?? 1) - 2;
      // The highest bit of the fraction.
      if (bytes.length > 0) bytes[Math.max(0, high)]! ^= 0x40;
      return { ...tensor, bytes };
    });
  }
  const swapped = [...tensors];
  for (let i = 0; i < swapped.length; i++) {
    const other = tensors.findIndex((one, j) =>
      j > i && one.dtype === tensors[i]!.dtype && one.shape.join() === tensors[i]!.shape.join() &&
      swapped[j] === one
    );
    if (other < 0 || swapped[i] !== tensors[i]) continue;
    swapped[i] = { ...tensors[i]!, bytes: tensors[other]!.bytes };
    swapped[other] = { ...tensors[other]!, bytes: tensors[i]!.bytes };
  }
  return swapped;
}

interface Sized {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly itemSize: number;
  readonly byteLength: number;
}

/** The tensors of an update. Lists of unequal length end with the shortest, as Python's `zip`. */
function tensorsOf({ names, dtypes, shapes }: DistributedUpdate): Sized[] {
  const count = Math.min(names.length, dtypes.length, shapes.length);
  return Array.from({ length: count }, (_, i) => {
    const dtype = dtypes[i]!;
    const itemSize = sizes[dtype];
    if (itemSize === undefined) throw new Error(`module 'torch' has no attribute '${dtype}'`);
    const shape = shapes[i]!;
    const negative = shape.find((size) => size < 0);
    if (negative !== undefined) {
      throw new Error(
        `Trying to create tensor with negative dimension ${negative}: [${shape.join(", ")}]`,
      );
    }
    const byteLength = shape.reduce((total, n) => total * n, itemSize);
    return { name: names[i]!, dtype: dtype as DType, shape, itemSize, byteLength };
  });
}

function success(message: string): UpdateResult {
  return { success: true, message };
}

function failure(message: string): UpdateResult {
  return { success: false, message };
}

function partiallyUpdated(reason: string): string {
  return `Failed to update parameter online: ${reason}. The full weights of the ModelRunner are ` +
    "partially updated. Please discard the whole weights.";
}
