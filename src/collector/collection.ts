import { StateError } from "../errors.ts";
import { systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { silentLogger } from "../internal/logger.ts";
import { tell } from "../internal/observe.ts";
import type { RolloutBatch } from "./batch.ts";
import { BatchQueue } from "./batch_queue.ts";
import { ChangeSignal, type RolloutOptions, waitForBatch } from "./batch_wait.ts";
import { dialogSetting } from "./dialog.ts";
import type { CollectorPlan, EnvironmentSource, LLMCollectorOptions } from "./options.ts";
import type { CollectorPolicy } from "./policy.ts";
import { type EnvironmentSlots, environmentSlots } from "./pool.ts";
import type { RolloutRow } from "./row.ts";
import { Scheduler } from "./scheduler.ts";
import { ServerVersions } from "./server_versions.ts";
import { checkState, type CollectorState, stateOf } from "./state.ts";
import { type CollectorStats, emptyStats } from "./stats.ts";
import { TaskQueue } from "./tasks.ts";

const SHUTDOWN_TIMEOUT_MS = 30_000;

/** What a collection is made of. */
export interface CollectionParts {
  /** The collector, as traces and metrics know it. */
  readonly collector: object;
  readonly policy: CollectorPolicy;
  readonly plan: CollectorPlan;
  readonly options: Omit<LLMCollectorOptions<unknown>, "postproc" | "replayBuffer" | "queue">;
  /** Called before a batch is taken, while all of it still waits. */
  readonly beforeTake: () => void;
}

/**
 * The work behind a collector: the dialogs that wait, those that run, and the rows that wait for the
 * reader. It knows nothing of sinks and of what is done with a batch.
 */
export class Collection {
  /** Where rows wait. */
  readonly queue: BatchQueue;
  /** What runs the dialogs. */
  readonly scheduler: Scheduler;
  readonly #parts: CollectionParts;
  readonly #stats = emptyStats();
  readonly #tasks: TaskQueue;
  readonly #serverVersions: ServerVersions;
  readonly #stopping = new AbortController();
  readonly #changes = new ChangeSignal();
  readonly #membersPerGroup: number;
  #started: Promise<void> | null = null;

  /** Makes it; nothing runs before `start()`. */
  constructor(environments: EnvironmentSource, parts: CollectionParts) {
    this.#parts = parts;
    const { policy, plan, options } = parts;
    const { totalDialogs, groups, versions } = plan;
    const { logger, clock } = options;
    const slots = environmentSlots(environments);
    this.#serverVersions = new ServerVersions({ policy, versions, logger, clock });
    this.#membersPerGroup = (groups?.size ?? 1) + (groups?.spares ?? 0);
    const tasks = this.#tasks = new TaskQueue({
      groups: totalDialogs / (groups?.size ?? 1),
      membersPerGroup: this.#membersPerGroup,
    });
    this.queue = new BatchQueue({
      plan,
      perBatch: options.dialogTurnsPerBatch,
      environments: slots.size,
      tasks,
      stats: this.#stats,
      abandonGroup: (group) => this.scheduler.abandonGroup(group),
      beforeTake: parts.beforeTake,
      clock: clock ?? systemClock,
    });
    this.scheduler = this.#makeScheduler(slots);
  }

  /** Whether it has begun. */
  get isStarted(): boolean {
    return this.#started !== null;
  }

  /** What was done so far. */
  get stats(): CollectorStats {
    return { ...this.#stats, retriesWaiting: this.#tasks.waitingAgain };
  }

  /** Fires when it stops. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Begins, once: asks the servers for the names of their weights, then runs dialogs. */
  start(): Promise<void> {
    return this.#started ??= this.#begin();
  }

  /** Waits for a batch; `null` at the end. */
  wait(options: RolloutOptions): Promise<RolloutBatch | null> {
    return waitForBatch({
      queue: this.queue,
      scheduler: this.scheduler,
      changes: this.#changes,
      perBatch: this.#parts.options.dialogTurnsPerBatch,
      stopping: this.#stopping.signal,
      clock: this.#parts.options.clock,
    }, options);
  }

  /** Something changed that a waiting reader, or a dialog that may not run, wants to look at. */
  changed(): void {
    this.#changes.announce();
    this.scheduler.update();
  }

  /** Ends what runs, without waiting for it. */
  abort(reason: unknown): void {
    this.#stopping.abort(reason);
  }

  /** Ends every dialog, and waits until all have ended; rows that wait stay. */
  async stop(reason: string): Promise<void> {
    this.queue.close();
    this.#stopping.abort(new StateError(`Stopped: ${reason}`));
    const { clock } = this.#parts.options;
    await withDeadline(
      { phase: "ending dialogs", timeoutMs: SHUTDOWN_TIMEOUT_MS, clock },
      () => this.scheduler.stopped(),
    );
    this.#stats.dialogsAbandoned += this.#tasks.forgetAgain();
    this.queue.forgetGroups();
  }

  /** Where it stands; what runs or waits does not count. */
  state(): CollectorState {
    return stateOf({
      membersPerGroup: this.#membersPerGroup,
      queue: this.queue.state(),
      stats: this.#stats,
      versions: this.#parts.plan.versions?.state() ?? null,
    });
  }

  /** Goes on where another stood. */
  restore(state: CollectorState): void {
    this.needWholeDialogs();
    if (this.isStarted) {
      throw new StateError("Cannot restore: collecting has begun; call restore() before it");
    }
    checkState(state, this.#membersPerGroup);
    if (state.versions !== null) this.#parts.plan.versions?.restore(state.versions);
    this.queue.restore(state);
    Object.assign(this.#stats, state.stats);
  }

  /** Refuses a state where half a dialog may have been given out. */
  needWholeDialogs(): void {
    if (this.queue.givesWholeDialogs) return;
    throw new StateError(
      "Only a collector that gives out whole dialogs has a state to go on from: use groupSize, " +
        "yieldCompletedTrajectories or yieldOnlyLastSteps",
    );
  }

  async #begin(): Promise<void> {
    await this.#serverVersions.begin(this.#stopping.signal);
    this.scheduler.start();
  }

  #onRow(row: RolloutRow): void {
    this.queue.addRow(row);
    tell({ name: "row", subject: this.#parts.collector, value: row });
    this.#serverVersions.warnOfUnknown(row);
  }

  #makeScheduler(slots: EnvironmentSlots): Scheduler {
    const { collector, policy, plan, options } = this.#parts;
    const { versions, grouping } = plan;
    const { clock = systemClock, logger = silentLogger } = options;
    const { maxConcurrency } = slots;
    return new Scheduler({
      collector,
      slots: slots.size,
      openEnvironment: slots.open,
      ownsEnvironments: slots.owned,
      tasks: this.#tasks,
      dialogRetries: options.dialogRetries ?? 0,
      setting: dialogSetting(options, { policy, versions, maxConcurrency }),
      stats: this.#stats,
      logger,
      clock,
      signal: this.#stopping.signal,
      events: {
        wants: (request) => this.queue.wants(request),
        // Those that go in step wait each for the others.
        wantsDiffer: grouping === "grid",
        withinGroup: (group, dialog) => this.queue.withinGroup(group, dialog),
        onRow: (row) => this.#onRow(row),
        onDiscard: (rows) => this.queue.discard(rows),
        onTrajectory: (trajectory) => this.queue.addTrajectory(trajectory),
        onFailure: (task, error) => this.queue.addFailure(task, error),
        onCrash: (error) => this.queue.fail(error),
        onChange: () => this.changed(),
      },
    });
  }
}
