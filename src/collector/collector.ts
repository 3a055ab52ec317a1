import type { PauseMode } from "../client/types.ts";
import { AbortedError, StateError } from "../errors.ts";
import { systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { silentLogger } from "../internal/logger.ts";
import { tell } from "../internal/observe.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { asError } from "../internal/thrown.ts";
import type { RolloutBatch } from "./batch.ts";
import { ChangeSignal } from "./change_signal.ts";
import { type CollectorStats, emptyStats } from "./stats.ts";
import {
  type CollectorPlan,
  type EnvironmentSource,
  type LLMCollectorOptions,
  planCollection,
  type PolicySource,
} from "./options.ts";
import { bindPolicy } from "./bind_policy.ts";
import { BatchQueue } from "./batch_queue.ts";
import { type EnvironmentSlots, environmentSlots } from "./environment_slots.ts";
import type { CollectorPolicy } from "./policy.ts";
import { UNKNOWN_VERSION, type VersionEntry } from "./policy_version.ts";
import type { RolloutRow } from "./row.ts";
import { Scheduler } from "./scheduler.ts";
import { checkState, COLLECTOR_STATE_SCHEMA, type CollectorState } from "./state.ts";
import { TaskQueue } from "./tasks.ts";
import { watchBatch } from "./watched.ts";

const DEFAULT_TURN_TIMEOUT_MS = 600_000;
const DEFAULT_ENVIRONMENT_TIMEOUT_MS = 60_000;
const SHUTDOWN_TIMEOUT_MS = 30_000;
const MOST_WARNINGS = 1_000;

/** Options of a single wait for a batch. */
export interface RolloutOptions {
  /** Ends the wait; rows collected so far stay for the next call. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline in milliseconds. Default 3 600 000; rows stay for the next call. */
  readonly timeoutMs?: number | undefined;
  /**
   * Told when it begins to wait and whenever something changed: the elements that are collected, those
   * of a batch, and the dialogs that run.
   */
  readonly onProgress?:
    | ((progress: { collected: number; wanted: number; running: number }) => void)
    | undefined;
}

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
  readonly #queue: BatchQueue;
  readonly #scheduler: Scheduler;
  readonly #stats = emptyStats();
  readonly #tasks: TaskQueue;
  readonly #warnedOf = new Set<string>();
  readonly #stopping = new AbortController();
  readonly #changes = new ChangeSignal();
  readonly #turn = new Semaphore(1);
  readonly #unlinkSignal: () => void;
  readonly #shutdown = new AbortController();
  #postproc: LLMCollectorOptions<Item>["postproc"];
  /** A batch whose `postproc` failed: the next call tries it again. */
  #held: RolloutBatch | null = null;
  /** The state before the batch that is on its way to who gets it. */
  #before: CollectorState | null = null;
  readonly #membersPerGroup: number;
  #started: Promise<void> | null = null;
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
    this.#postproc = options.postproc;
    const slots = environmentSlots(environments);
    const { totalDialogs, groups } = this.#plan;
    this.#membersPerGroup = (groups?.size ?? 1) + (groups?.spares ?? 0);
    const tasks = this.#tasks = new TaskQueue({
      groups: totalDialogs / (groups?.size ?? 1),
      membersPerGroup: this.#membersPerGroup,
    });
    this.#queue = new BatchQueue({
      plan: this.#plan,
      perBatch: options.dialogTurnsPerBatch,
      environments: slots.size,
      tasks,
      stats: this.#stats,
      abandonGroup: (group) => this.#scheduler.abandonGroup(group),
      beforeTake: () => this.#before = this.#queue.givesWholeDialogs ? this.#present() : null,
    });
    this.#scheduler = this.#makeScheduler(slots, tasks);
    const onAbort = () => {
      this.#stopping.abort(options.signal?.reason);
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
    return this.#started !== null;
  }

  /** What was done so far. */
  get stats(): CollectorStats {
    return { ...this.#stats, retriesWaiting: this.#tasks.waitingAgain };
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
    this.#needWholeDialogs();
    return this.#before ?? this.#present();
  }

  #present(): CollectorState {
    const { rowsYielded, rowsStale, turns } = this.#stats;
    const { dialogsStarted, dialogsCompleted, dialogsFailed } = this.#stats;
    return {
      schema: COLLECTOR_STATE_SCHEMA,
      membersPerGroup: this.#membersPerGroup,
      ...this.#queue.state(),
      stats: {
        ...this.#stats,
        dialogsAbandoned: dialogsStarted - dialogsCompleted - dialogsFailed,
        rowsUnused: turns - rowsYielded - rowsStale,
      },
      versions: this.#plan.versions?.state() ?? null,
    };
  }

  /**
   * Goes on where another run stood: groups (without groups: dialogs) that were over are not begun
   * again, all others are, under the same numbers. Call it before the first batch.
   *
   * @throws {StateError} When collecting has begun.
   * @throws {ValidationError} For a state of other groups or of another form.
   */
  restore(state: CollectorState): void {
    this.#needWholeDialogs();
    if (this.#started !== null) {
      throw new StateError("Cannot restore: collecting has begun; call restore() before it");
    }
    checkState(state, this.#membersPerGroup);
    if (state.versions !== null) this.#plan.versions?.restore(state.versions);
    this.#queue.restore(state);
    Object.assign(this.#stats, state.stats);
  }

  /** Dialogs that run at this moment. */
  get running(): number {
    return this.#scheduler.running;
  }

  /** Elements that are collected and wait for the reader. */
  get waiting(): number {
    return this.#queue.waiting;
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
    this.#changed();
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
    this.#postproc = postproc;
  }

  /**
   * Collects one batch; `null` at the end. It goes to the caller even with a sink. Throws the error
   * of a dialog (`onDialogError: "throw"`), after which the next call goes on; a timeout; an abort
   * error after a shutdown; the error of `postproc`, after which the next call gives it the same batch
   * again. Dialogs that failed after the last batch (`"skip"`) come in one without rows.
   */
  async rollout(options: RolloutOptions = {}): Promise<RolloutBatch | null> {
    const batch = await this.#collect(options);
    this.#before = null;
    return batch;
  }

  async #collect(options: RolloutOptions): Promise<RolloutBatch | null> {
    using _turn = await this.#turn.acquire(options.signal);
    if (this.#held !== null) return await this.#processed(this.#held, options);
    if (this.#queue.isClosed) return this.#afterEnd();
    await this.#start();
    if (this.#options.resetAtEachIter) this.#scheduler.restartAll();
    this.#queue.hasReader = true;
    try {
      const batch = await watchBatch(this, () => this.#nextBatch(options));
      return batch === null ? null : await this.#processed(batch, options);
    } finally {
      this.#queue.hasReader = false;
      if (this.#queue.isClosed) await this.#stop("the collector reached its end");
    }
  }

  async #processed(batch: RolloutBatch, { signal }: RolloutOptions): Promise<RolloutBatch> {
    if (this.#postproc === undefined) return batch;
    const { signal: ending } = this.#shutdown;
    this.#held = batch;
    const processed = await this.#postproc(batch, {
      signal: signal === undefined ? ending : AbortSignal.any([signal, ending]),
    });
    this.#held = null;
    return processed;
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
      const accepted = sink.accept(batch, { signal: this.#stopping.signal });
      // A sink that takes at once has the batch now, not some moments later.
      const item = accepted instanceof Promise ? await accepted : accepted;
      this.#before = null;
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
    if (this.#options.replayBuffer === undefined && this.#options.queue === undefined) {
      throw new StateError("Cannot start in the background: give a replayBuffer or a queue");
    }
    this.#pump ??= this.#run();
    // The reader of `finished()` or `asyncShutdown()` gets the error; here it must not be unhandled.
    this.#pump.catch(() => {});
  }

  /** Resolves when a collector that was started in the background is done. */
  async finished(options: RolloutOptions = {}): Promise<void> {
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
    const batch = this.#held ?? this.#queue.drain();
    this.#held = null;
    this.#before = null;
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

  async #run(): Promise<void> {
    const sink = this.#options.replayBuffer ?? this.#options.queue;
    sink?.begin?.();
    try {
      for await (const _item of this) { /* The sink has it. */ }
    } catch (error) {
      // A shutdown is an end, not a failure.
      if (this.#stopping.signal.aborted && error instanceof AbortedError) sink?.end?.();
      else sink?.end?.(asError(error));
      throw error;
    }
    sink?.end?.();
  }

  /** What came when everything was given out: errors and failures are not lost for that. */
  #afterEnd(): RolloutBatch | null {
    if (!this.#isShutDown) this.#queue.throwPending();
    return this.#isShutDown ? null : this.#queue.takeFailures();
  }

  #needWholeDialogs(): void {
    if (this.#queue.givesWholeDialogs) return;
    throw new StateError(
      "Only a collector that gives out whole dialogs has a state to go on from: use groupSize, " +
        "yieldCompletedTrajectories or yieldOnlyLastSteps",
    );
  }

  #start(): Promise<void> {
    this.#started ??= this.#begin();
    return this.#started;
  }

  async #begin(): Promise<void> {
    const versions = this.#plan.versions;
    const { logger = silentLogger } = this.#options;
    if (versions !== null && this.#policy.weightVersions !== undefined) {
      try {
        const names = await withDeadline({
          phase: "reading the servers' weight version",
          timeoutMs: 10_000,
          signal: this.#stopping.signal,
          clock: this.#options.clock,
        }, (signal) => this.#policy.weightVersions!({ signal }));
        versions.begin(names);
        if (versions.currentIndex > 0) this.#warnOfMixed(names);
      } catch (error) {
        logger.warn(`The servers' weight version is not known: ${error}`);
      }
    }
    this.#scheduler.start();
  }

  async #nextBatch(options: RolloutOptions): Promise<RolloutBatch | null> {
    const { signal, timeoutMs = 3_600_000 } = options;
    const stopping = this.#stopping.signal;
    return await withDeadline({
      phase: "collect batch",
      timeoutMs,
      signal: signal === undefined ? stopping : AbortSignal.any([signal, stopping]),
      clock: this.#options.clock,
      lastHeard: () => `${this.waiting} elements collected, ${this.running} dialogs running`,
    }, async (waitSignal) => {
      while (!waitSignal.aborted) {
        const changed = this.#changes.next;
        this.#scheduler.update();
        options.onProgress?.({
          collected: this.waiting,
          wanted: this.dialogTurnsPerBatch,
          running: this.running,
        });
        const batch = this.#queue.take(false) ?? this.#takeLast();
        if (batch !== null || this.#queue.isClosed) return batch;
        // Taking may have sent stale dialogs back to be run again, for which nobody else rings.
        this.#scheduler.update();
        await changed;
      }
      return null;
    });
  }

  /** The rest when no dialog can follow; closes the queue when nothing is left. */
  #takeLast(): RolloutBatch | null {
    // Stalled: places in step wait for others, which have no dialogs left to catch up with.
    if (!this.#scheduler.isExhausted && !this.#scheduler.isStalled) return null;
    const last = this.#queue.take(true);
    // Taking may have sent stale dialogs back to be run again.
    if (last !== null || !this.#scheduler.isExhausted) return last;
    this.#queue.close();
    return this.#queue.takeFailures();
  }

  #warnOfMixed(names: readonly string[]): void {
    this.#options.logger?.warn(
      `The servers have different weights at the start (${names.join(", ")}); they count as ` +
        `different versions, of which the present one is ${this.policyVersion}`,
    );
  }

  /** Takes a turn; rows of unknown weights are logged once for each server. */
  #onRow(row: RolloutRow): void {
    this.#queue.addRow(row);
    tell({ name: "row", subject: this, value: row });
    if (row.tokenVersions?.includes(UNKNOWN_VERSION) !== true) return;
    const names = row.weightVersions?.map(({ version }) => version).join(", ");
    const key = `${row.server} ${names}`;
    if (this.#warnedOf.has(key)) return;
    // Enough for any fleet; a server with ever new names must not fill the memory.
    if (this.#warnedOf.size >= MOST_WARNINGS) return;
    this.#warnedOf.add(key);
    this.#options.logger?.warn(
      `${row.server ?? "A server"} made tokens with weights "${names}", which no sync announced: ` +
        "they count as stale",
    );
  }

  #changed(): void {
    this.#changes.announce();
    this.#scheduler.update();
  }

  async #stop(reason: string): Promise<void> {
    this.#queue.close();
    this.#unlinkSignal();
    this.#stopping.abort(new StateError(`Stopped: ${reason}`));
    const { clock } = this.#options;
    await withDeadline(
      { phase: "ending dialogs", timeoutMs: SHUTDOWN_TIMEOUT_MS, clock },
      () => this.#scheduler.stopped(),
    );
    this.#stats.dialogsAbandoned += this.#tasks.forgetAgain();
    this.#queue.forgetGroups();
  }

  #makeScheduler(slots: EnvironmentSlots, tasks: TaskQueue): Scheduler {
    const options = this.#options;
    const { clock = systemClock, logger = silentLogger } = options;
    return new Scheduler({
      collector: this,
      slots: slots.size,
      openEnvironment: slots.open,
      ownsEnvironments: slots.owned,
      tasks,
      dialogRetries: options.dialogRetries ?? 0,
      setting: {
        policy: this.#policy,
        versions: this.#plan.versions,
        maxTurns: options.maxTurns ?? Infinity,
        turnTimeoutMs: options.turnTimeoutMs ?? DEFAULT_TURN_TIMEOUT_MS,
        environmentTimeoutMs: options.environmentTimeoutMs ?? DEFAULT_ENVIRONMENT_TIMEOUT_MS,
        environmentCalls: new Semaphore(slots.maxConcurrency),
        clock,
      },
      stats: this.#stats,
      logger,
      clock,
      signal: this.#stopping.signal,
      events: {
        wants: (request) => this.#queue.wants(request),
        // Those that go in step wait each for the others.
        wantsDiffer: this.#plan.grouping === "grid",
        onRow: (row) => this.#onRow(row),
        onDiscard: (rows) => this.#queue.discard(rows),
        onTrajectory: (trajectory) => this.#queue.addTrajectory(trajectory),
        onFailure: (task, error) => this.#queue.addFailure(task, error),
        onCrash: (error) => this.#queue.fail(error),
        onChange: () => this.#changed(),
      },
    });
  }
}
