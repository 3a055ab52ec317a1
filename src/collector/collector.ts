import { checkOptionNames } from "../internal/option_names.ts";
import type { PauseMode } from "../client/types.ts";
import { AbortedError, StateError } from "../errors.ts";
import { withDeadline } from "../internal/deadline.ts";
import { asError } from "../internal/thrown.ts";
import { Semaphore } from "../internal/semaphore.ts";
import type { RolloutBatch } from "./batch.ts";
import { ROLLOUT_OPTION_NAMES, type RolloutOptions } from "./batch_wait.ts";
import { Collection } from "./collection.ts";
import {
  type BatchSink,
  type CollectorPlan,
  type EnvironmentSource,
  type LLMCollectorOptions,
  planCollection,
  type PolicySource,
} from "./options.ts";
import { OutgoingBatch } from "./outgoing_batch.ts";
import type { CollectorPolicy } from "./policy.ts";
import type { VersionEntry } from "./policy_version.ts";
import type { CollectorState } from "./state.ts";
import type { CollectorStats } from "./stats.ts";
import { watchBatch } from "./watched.ts";
import { bindPolicy } from "./wrapper_policy.ts";

/**
 * Runs a policy in environments and gives out batches of turns.
 *
 * It is an async iterable: each step collects `dialogTurnsPerBatch` elements. Environments in a pool
 * run ahead of the reader by at most `prefetchBatches`; others only while the reader waits. With a
 * `replayBuffer` or `queue` the rows go there and the reader gets `null`.
 *
 * Dialogs fail alone: the rows of the others are kept, before and after an error reached the reader.
 *
 * @typeParam Item What the reader gets: a batch, or what the sink answers.
 *
 * @example
 * ```ts ignore
 * await using collector = new LLMCollector(
 *   new EnvironmentPool(() => promptEnvironment({ prompts, reward }), { size: 64 }),
 *   { policy, dialogTurnsPerBatch: 256, totalDialogTurns: 10_000, maxStaleness: 1 },
 * );
 * sender.registerCollector(collector);
 * for await (const batch of collector) await train(batch);
 * ```
 */
export class LLMCollector<Item = RolloutBatch> implements AsyncDisposable {
  readonly #options: LLMCollectorOptions<Item>;
  readonly #plan: CollectorPlan;
  readonly #policy: CollectorPolicy;
  readonly #collection: Collection;
  readonly #turn = new Semaphore(1);
  readonly #unlinkSignal: () => void;
  readonly #shutdown = new AbortController();
  readonly #outgoing: OutgoingBatch;
  #isShutDown = false;
  #pump: Promise<void> | null = null;

  /**
   * Makes a collector; nothing runs before the first batch is asked for.
   *
   * @throws {ValidationError} For options that exclude each other or are out of range.
   */
  constructor(
    environments: EnvironmentSource,
    options: LLMCollectorOptions<Item> & { policy: PolicySource },
  ) {
    const { policy, ...rest } = options;
    this.#options = rest as LLMCollectorOptions<Item>;
    this.#plan = planCollection(environments, this.#options);
    this.#policy = bindPolicy(policy, {
      collector: this,
      partialRollouts: this.#plan.partialRollouts,
    });
    this.#outgoing = new OutgoingBatch(options.postproc, this.#shutdown.signal);
    this.#collection = new Collection(environments, {
      collector: this,
      policy: this.#policy,
      plan: this.#plan,
      options: this.#options,
      beforeTake: () => {
        const { givesWholeDialogs } = this.#collection.queue;
        this.#outgoing.before = givesWholeDialogs ? this.#collection.state() : null;
      },
    });
    const onAbort = () => {
      this.#collection.abort(options.signal?.reason);
      this.#shutdown.abort(options.signal?.reason);
    };
    options.signal?.addEventListener("abort", onAbort, { once: true });
    if (options.signal?.aborted) onAbort();
    this.#unlinkSignal = () => options.signal?.removeEventListener("abort", onAbort);
  }

  /** Elements in a batch. */
  get dialogTurnsPerBatch(): number {
    return this.#options.dialogTurnsPerBatch;
  }

  /** Elements to give out in all; -1 for no end. */
  get totalDialogTurns(): number {
    return this.#plan.totalTurns === Infinity ? -1 : this.#plan.totalTurns;
  }

  /** Whether collecting has begun. */
  get isInitialized(): boolean {
    return this.#collection.isStarted;
  }

  /** What was done so far. */
  get stats(): CollectorStats {
    return this.#collection.stats;
  }

  /**
   * Where the run stands, as plain JSON: to be written down together with what became of the rows that
   * were given out so far, and given to {@linkcode LLMCollector.restore} of a later run. Dialogs that
   * run, and rows that wait to be given out, are not in it: they are run again. Nor is a batch that
   * `postproc` or the sink still has: at every moment the state and the sink fit together.
   *
   * @throws {StateError} Where turns are given out one by one, since half a dialog cannot be gone on
   *   with; use `yieldCompletedTrajectories` or `groupSize`.
   */
  state(): CollectorState {
    this.#collection.needWholeDialogs();
    return this.#outgoing.before ?? this.#collection.state();
  }

  /**
   * Goes on where another run stood: groups (without groups: dialogs) that were over are not begun
   * again, all others are, under the same numbers. Call it before the first batch.
   *
   * @throws {StateError} When collecting has begun.
   * @throws {ValidationError} For a state of other groups or of another form.
   */
  restore(state: CollectorState): void {
    this.#collection.restore(state);
  }

  /** Dialogs that run at this moment. */
  get running(): number {
    return this.#collection.scheduler.running;
  }

  /** Elements that are collected and wait for the reader. */
  get waiting(): number {
    return this.#collection.queue.waiting;
  }

  /** The present policy version; `null` without a tracker. */
  get policyVersion(): number | string | null {
    return this.#plan.versions?.current ?? null;
  }

  /** The same as {@linkcode LLMCollector.policyVersion}. */
  getPolicyVersion(): number | string | null {
    return this.policyVersion;
  }

  /** All policy versions so far, oldest first; empty without a tracker. */
  get versionHistory(): readonly VersionEntry[] {
    return this.#plan.versions?.history ?? [];
  }

  /** The engine or model behind the policy. */
  getPolicyModel(): unknown {
    return this.#policy.model;
  }

  /**
   * Goes to the next policy version; a weight sync calls it when new weights are served.
   * `weightVersion` is the servers' own name for them. Does nothing without a tracker.
   */
  incrementVersion(weightVersion?: string): void {
    this.#plan.versions?.increment(weightVersion);
    this.#collection.changed();
  }

  /**
   * Says that a sync is about to bring weights of this name; a sender calls it. Rows of servers that
   * have them already then count as the next version; a name that nobody announced is unknown. Does
   * nothing without a tracker.
   */
  announceVersion(weightVersion: string): void {
    this.#plan.versions?.announce(weightVersion);
  }

  /**
   * Says what weight syncs do with running requests; a sender calls it when the collector is
   * registered. As long as all say `"abort"`, no request goes through a sync, so that the version at
   * its end is that of all its tokens. Does nothing without a tracker.
   */
  expectPauseMode(mode: PauseMode): void {
    this.#plan.versions?.expectPauseMode(mode);
  }

  /** Replaces what is applied to every batch before it is given out. */
  setPostproc(postproc: NonNullable<LLMCollectorOptions["postproc"]>): void {
    this.#outgoing.postproc = postproc;
  }

  /**
   * Collects one batch; `null` at the end. It goes to the caller even with a sink. Throws the error
   * of a dialog (`onDialogError: "throw"`), after which the next call goes on; a timeout; an abort
   * error after a shutdown; the error of `postproc`, after which the next call gives it the same batch
   * again. Dialogs that failed after the last batch (`"skip"`) come in one without rows.
   */
  async rollout(options: RolloutOptions = {}): Promise<RolloutBatch | null> {
    checkOptionNames(options, ROLLOUT_OPTION_NAMES, "rollout()");
    const batch = await this.#collect(options);
    this.#outgoing.arrived();
    return batch;
  }

  async #collect(options: RolloutOptions): Promise<RolloutBatch | null> {
    using _turn = await this.#turn.acquire(options.signal);
    const { signal } = options;
    if (this.#outgoing.held !== null) {
      return await this.#outgoing.process(this.#outgoing.held, signal);
    }
    const { queue, scheduler } = this.#collection;
    if (queue.isClosed) return this.#afterEnd();
    await this.#collection.start();
    if (this.#options.resetAtEachIter) scheduler.restartAll();
    queue.hasReader = true;
    try {
      const batch = await watchBatch(this, () => this.#collection.wait(options));
      return batch === null ? null : await this.#outgoing.process(batch, signal);
    } finally {
      queue.hasReader = false;
      if (queue.isClosed) await this.#stop("the collector reached its end");
    }
  }

  /** The batches, or what the sink answers to each. Leaving the loop keeps the rest collected. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<Item> {
    const sink = this.#options.replayBuffer ?? this.#options.queue;
    for (;;) {
      const batch = await (sink === undefined ? this.rollout() : this.#collect({}));
      if (batch === null) return;
      if (sink === undefined) {
        yield batch as Item;
        continue;
      }
      const accepted = sink.accept(batch, { signal: this.#collection.stopping });
      // A sink that takes at once has the batch now, not some moments later.
      const item = accepted instanceof Promise ? await accepted : accepted;
      this.#outgoing.arrived();
      yield item;
    }
  }

  /**
   * Collects in the background into the `replayBuffer` or `queue` until the end or
   * {@linkcode LLMCollector.asyncShutdown}, which rethrows what went wrong.
   *
   * @throws {StateError} Without a sink.
   */
  start(): void {
    const sink = this.#options.replayBuffer ?? this.#options.queue;
    if (sink === undefined) {
      throw new StateError("Cannot start in the background: give a replayBuffer or a queue");
    }
    this.#pump ??= pump(this, sink, this.#collection.stopping);
    // The reader of `finished()` or `asyncShutdown()` gets the error; here it must not be unhandled.
    this.#pump.catch(() => {});
  }

  /** Resolves when a collector that was started in the background is done. */
  async finished(options: RolloutOptions = {}): Promise<void> {
    checkOptionNames(options, ROLLOUT_OPTION_NAMES, "finished()");
    const { signal, timeoutMs = 3_600_000 } = options;
    const pump = this.#pump;
    if (pump === null) throw new StateError("Cannot wait for the end: call start() first");
    await withDeadline({ phase: "collector end", timeoutMs, signal }, () => pump);
  }

  /**
   * Takes what is collected and not given out yet, also less than a batch; `null` when nothing. A batch
   * whose `postproc` failed comes first, as it was before it.
   */
  drain(): RolloutBatch | null {
    const batch = this.#outgoing.takeHeld() ?? this.#collection.queue.drain();
    this.#outgoing.arrived();
    return batch;
  }

  /**
   * Ends every dialog and closes the environments of a pool. Safe to call twice. What is collected
   * stays for {@linkcode LLMCollector.drain}. Rethrows an error of the background run.
   */
  async asyncShutdown(): Promise<void> {
    this.#isShutDown = true;
    this.#shutdown.abort(new StateError("Stopped: the collector was shut down"));
    await this.#stop("the collector was shut down");
    const pump = this.#pump;
    this.#pump = null;
    await pump?.catch((error) => {
      if (!(error instanceof AbortedError)) throw error;
    });
  }

  /** The same as {@linkcode LLMCollector.asyncShutdown}. */
  async shutdown(): Promise<void> {
    await this.asyncShutdown();
  }

  /** Ends everything; errors of the background run are logged. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.asyncShutdown();
    } catch (error) {
      this.#options.logger?.error(`The collector had failed: ${error}`);
    }
  }

  /** What came when everything was given out: errors and failures are not lost for that. */
  #afterEnd(): RolloutBatch | null {
    if (!this.#isShutDown) this.#collection.queue.throwPending();
    return this.#isShutDown ? null : this.#collection.queue.takeFailures();
  }

  async #stop(reason: string): Promise<void> {
    this.#unlinkSignal();
    await this.#collection.stop(reason);
  }
}

/** Drives a collector whose sink takes the batches, and tells the sink of the beginning and the end. */
async function pump(
  collector: AsyncIterable<unknown>,
  sink: BatchSink<unknown>,
  stopping: AbortSignal,
): Promise<void> {
  sink.begin?.();
  try {
    for await (const _item of collector) { /* The sink has it. */ }
  } catch (error) {
    // A shutdown is an end, not a failure.
    if (stopping.aborted && error instanceof AbortedError) sink.end?.();
    else sink.end?.(asError(error));
    throw error;
  }
  sink.end?.();
}
