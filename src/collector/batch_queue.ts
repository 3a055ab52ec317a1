import { StateError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { messageOf } from "../internal/thrown.ts";
import { isFlat } from "../training/mod.ts";
import { makeAssembler } from "./assembler.ts";
import type { Assembled, Assembler } from "./assembler.ts";
import { type DialogFailure, RolloutBatch } from "./batch.ts";
import type { TurnRequest } from "./gate.ts";
import { Groups, type WholeGroup } from "./groups.ts";
import type { MutableStats } from "./stats.ts";
import type { CollectorPlan } from "./options.ts";
import type { PolicyVersion } from "./policy_version.ts";
import type { RolloutRow, Trajectory } from "./row.ts";
import { Settled, type SettledState } from "./settled.ts";
import { isStale } from "./staleness.ts";
import type { Task, TaskQueue } from "./tasks.ts";

/** Options of {@linkcode BatchQueue}. */
export interface BatchQueueOptions {
  readonly plan: CollectorPlan;
  readonly perBatch: number;
  readonly environments: number;
  readonly tasks: TaskQueue;
  readonly stats: MutableStats;
  /** Ends the members of a group that still run. */
  readonly abandonGroup: (group: number) => void;
  /** Called before a batch is taken, while all of it still waits. */
  readonly beforeTake: () => void;
  readonly clock: Clock;
}

const MAX_STALE_RETRIES = 8;
/** So many stale dialogs in a row, over so long, are no accident: nobody will ever bring fresh ones. */
const LEAST_STALE = 32;
const STALE_PATIENCE_MS = 60_000;

/** Dialogs in a row that began with the present weights and were stale all the same. */
interface StaleRun {
  readonly version: number;
  /** Those before it began when other weights were the present ones. */
  readonly firstDialog: number;
  count: number;
  sinceMs: number;
}

/** Where rows and errors wait for the reader; knows what the reader still wants. */
export class BatchQueue {
  readonly #plan: CollectorPlan;
  readonly #perBatch: number;
  readonly #tasks: TaskQueue;
  readonly #stats: MutableStats;
  readonly #assembler: Assembler;
  readonly #groups: Groups | null;
  readonly #beforeTake: () => void;
  readonly #clock: Clock;
  readonly #errors: { readonly error: Error; readonly over: number | null }[] = [];
  #failures: { readonly failure: DialogFailure; readonly over: number | null }[] = [];
  #settled = new Settled();
  #consecutiveFailures = 0;
  #staleRun: StaleRun | undefined;
  #fatal: Error | null = null;
  #delivered = 0;
  #isClosed = false;
  /** Whether a reader waits. */
  hasReader = false;

  constructor(options: BatchQueueOptions) {
    const { plan, perBatch, environments } = options;
    this.#plan = plan;
    this.#perBatch = perBatch;
    this.#tasks = options.tasks;
    this.#stats = options.stats;
    this.#assembler = makeAssembler(plan, { perBatch, environments });
    this.#groups = this.#makeGroups(options);
    this.#beforeTake = options.beforeTake;
    this.#clock = options.clock;
  }

  /** Whether whole dialogs are given out: only then is one that was given out over. */
  get givesWholeDialogs(): boolean {
    const { grouping } = this.#plan;
    return grouping === "trajectories" || grouping === "last_steps";
  }

  /** Groups that are over, and rows that were given out. */
  state(): { readonly settled: SettledState; readonly delivered: number } {
    return { settled: this.#settled.state(), delivered: this.#delivered };
  }

  /** Goes on with another run. */
  restore(state: { readonly settled: SettledState; readonly delivered: number }): void {
    this.#settled = new Settled(state.settled);
    this.#tasks.resume((group) => this.#settled.has(group));
    this.#delivered = state.delivered;
    if (this.#delivered >= this.#plan.totalTurns) this.#isClosed = true;
  }

  /** Elements that wait. */
  get waiting(): number {
    return this.#assembler.waiting;
  }

  /** Whether everything that was asked for has been given out. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Says that nothing more will be given out. */
  close(): void {
    this.#isClosed = true;
  }

  /** No dialog runs any more: groups that are not whole never will be. */
  forgetGroups(): void {
    const left = this.#groups?.forget() ?? [];
    this.#stats.groupDialogsDropped += left.length;
    this.#stats.rowsUnused += this.#rowsOf(left);
  }

  /** Whether a turn or a new dialog is wanted now. */
  wants({ environment, begins }: TurnRequest): boolean {
    if (this.#isClosed || this.#fatal !== null || this.#errors.length > 0) return false;
    if (this.hasReader) return this.#assembler.wants(environment);
    const { isAsync, grouping, prefetchBatches } = this.#plan;
    if (!isAsync) return false;
    // A dialog that is under way is finished: its rows are of no use before that.
    if (!begins && grouping !== "steps") return true;
    // Nor is half a group of use.
    if (this.#groups !== null && this.#tasks.isWithinGroup) return true;
    return this.waiting < prefetchBatches * this.#perBatch;
  }

  /** Runs a dialog as a part of its group. */
  withinGroup<T>(group: number, dialog: () => T): T {
    return this.#groups === null ? dialog() : this.#groups.within(group, dialog);
  }

  /** Takes a turn. */
  addRow(row: RolloutRow): void {
    this.#assembler.addRow(row);
  }

  /** Takes a dialog that came to its end. */
  addTrajectory(trajectory: Trajectory): void {
    this.#consecutiveFailures = 0;
    if (this.#plan.grouping === "last_steps") {
      this.#stats.rowsUnused += trajectory.rows.length - 1;
    }
    if (this.#groups === null) this.#assembler.addDialogs([trajectory.rows]);
    else this.#takeGroup(this.#groups.addTrajectory(trajectory));
  }

  /** Takes the rows of a try that did not come to its end. */
  discard(rows: readonly RolloutRow[]): void {
    const { grouping } = this.#plan;
    // Where turns are given out one by one, these are already on their way.
    if (grouping === "grid" || grouping === "steps") return;
    this.#stats.rowsUnused += rows.length;
  }

  /** Takes the error of a dialog that failed in all its tries; tells what becomes of it. */
  addFailure(task: Task, error: Error): "given up" | "again" {
    const outcome = this.#groups?.addFailure(task) ??
      { kind: "given up", group: null, isOver: true };
    if (outcome.kind === "again") {
      this.#countFailure(error);
      return "again";
    }
    this.#takeGroup(outcome.group);
    // Over only when the reader knows: until then the task is one that is not done.
    const over = outcome.isOver ? task.group : null;
    if (this.#plan.onDialogError === "throw") {
      this.#errors.push({ error, over });
    } else {
      const failure = { dialog: task.dialog, attempts: task.attempt + 1, error };
      this.#failures.push({ failure, over });
      this.#countFailure(error);
    }
    return "given up";
  }

  #countFailure(error: Error): void {
    this.#consecutiveFailures++;
    if (this.#consecutiveFailures < this.#plan.maxConsecutiveFailures) return;
    this.fail(
      new StateError(
        `Stopped after ${this.#consecutiveFailures} failed dialogs in a row; the last: ` +
          error.message,
        { cause: error },
      ),
    );
  }

  /** Ends collecting: every reader gets this error once the full batches are given out. */
  fail(error: Error): void {
    this.#fatal ??= error;
  }

  /** A batch when there is one, also a smaller one with `final`; throws the error that is next. */
  take(final: boolean): RolloutBatch | null {
    const assembled = this.#assembler.take((rows) => this.#admit(rows), final);
    if (assembled !== null) return this.#toBatch(assembled);
    this.throwPending();
    return null;
  }

  /** Throws the error that is next, so that none is lost, whatever ended since it came. */
  throwPending(): void {
    if (this.#fatal !== null) throw this.#fatal;
    const next = this.#errors.shift();
    if (next === undefined) return;
    if (next.over !== null) this.#settle(next.over);
    throw next.error;
  }

  /** The failures that no batch told, as a batch without rows; `null` when there are none. */
  takeFailures(): RolloutBatch | null {
    return this.#failures.length === 0 ? null : this.#toBatch({ rows: [], shape: [0] });
  }

  /** Everything that waits, whatever its age; `null` when nothing does. */
  drain(): RolloutBatch | null {
    const parts: (readonly RolloutRow[])[] = [];
    for (;;) {
      const assembled = this.#assembler.take(() => true, true);
      if (assembled === null) break;
      parts.push(assembled.rows);
    }
    const rows = parts.flat();
    if (rows.length === 0) return this.takeFailures();
    return this.#toBatch({ rows, shape: [rows.length] });
  }

  #settle(group: number): void {
    if (this.givesWholeDialogs) this.#settled.add(group);
  }

  /** Whether dialogs that belong together may be given out; the others are dropped or run again. */
  #admit(dialogs: WholeGroup): boolean {
    const { versions, maxStaleness, onStale } = this.#plan;
    if (versions === null || onStale === "keep" || maxStaleness === Infinity) return true;
    if (!dialogs.some((rows) => isStale(rows, versions, maxStaleness))) {
      this.#staleRun = undefined;
      return true;
    }
    this.#countStale(dialogs, versions);
    this.#stats.rowsStale += this.#rowsOf(dialogs);
    const attempt = dialogs.reduce((most, rows) => Math.max(most, rows[0]!.attempt), 0);
    if (onStale === "retry" && attempt < MAX_STALE_RETRIES) {
      this.#stats.retries += dialogs.length;
      this.#stats.dialogsCompleted -= dialogs.length;
      if (this.#groups === null) this.#tasks.again(dialogs[0]![0]!);
      else this.#groups.reopen(dialogs);
    } else {
      this.#stats.staleDropped += dialogs.length;
      this.#settle(dialogs[0]![0]!.group);
    }
    return false;
  }

  /** Collecting ends where every dialog is thrown away, rather than go on so for ever. */
  #countStale(dialogs: WholeGroup, versions: PolicyVersion): void {
    const version = versions.currentIndex;
    const now = this.#clock.now();
    if (this.#staleRun?.version !== version) {
      const firstDialog = this.#stats.dialogsStarted;
      this.#staleRun = { version, firstDialog, count: 0, sinceMs: now };
      return;
    }
    const run = this.#staleRun;
    const first = dialogs[0]![0]!;
    if (first.dialog < run.firstDialog) return;
    if (run.count === 0) run.sinceMs = now;
    run.count += dialogs.length;
    if (run.count < LEAST_STALE || now - run.sinceMs < STALE_PATIENCE_MS) return;
    const said = first.weightVersions?.map((one) => one.version).join(", ");
    this.fail(
      new StateError(
        `Stopped after ${run.count} stale dialogs in a row: they began with the present weights ` +
          `(version ${versions.current}), but ${
            first.server ?? "the server"
          } says that it served ` +
          `"${said}". Sync the servers (updateWeights), raise maxStaleness, or keep such rows ` +
          'with onStale: "keep"',
      ),
    );
  }

  #makeGroups({ plan, tasks, abandonGroup, stats }: BatchQueueOptions): Groups | null {
    if (plan.groups === null) return null;
    return new Groups({
      plan: plan.groups,
      tasks,
      abandon: (group) => {
        stats.dialogsAbandoned += tasks.dropGroup(group);
        abandonGroup(group);
      },
      onDropped: (dialogs) => {
        stats.groupsDropped++;
        stats.groupDialogsDropped += dialogs.length;
        stats.rowsUnused += this.#rowsOf(dialogs);
      },
    });
  }

  /** The rows of dialogs that would be given out. */
  #rowsOf(dialogs: WholeGroup): number {
    if (this.#plan.grouping === "last_steps") return dialogs.length;
    return dialogs.reduce((sum, rows) => sum + rows.length, 0);
  }

  #takeGroup(group: WholeGroup | null): void {
    if (group === null) return;
    this.#stats.groupsCompleted++;
    if (this.#isRefused(group)) {
      this.#stats.groupsRefused++;
      this.#stats.groupDialogsDropped += group.length;
      this.#stats.rowsUnused += this.#rowsOf(group);
      this.#settle(group[0]![0]!.group);
      return;
    }
    this.#assembler.addDialogs(group);
  }

  #isRefused(group: WholeGroup): boolean {
    const { dropFlat, admit } = this.#plan.groups!;
    const rewardOf = (rows: readonly RolloutRow[]) =>
      rows.reduce((sum, row) => sum + row.reward, 0);
    if (dropFlat && isFlat(group.map(rewardOf))) return true;
    if (admit === null) return false;
    try {
      const isAdmitted: unknown = admit(group.flat());
      // A promise is no answer, and would count as one.
      if (typeof isAdmitted === "boolean") return !isAdmitted;
      throw new TypeError(`it must give true or false at once, not ${typeof isAdmitted}`);
    } catch (error) {
      this.fail(
        new StateError(`admitGroup failed: ${messageOf(error)}`, { cause: error }),
      );
      return true;
    }
  }

  #toBatch({ rows, shape }: Assembled): RolloutBatch {
    this.#beforeTake();
    // The reader has what it waited for, also in the moments until it knows.
    this.hasReader = false;
    const { versions, maxStaleness, totalTurns } = this.#plan;
    const stale = versions === null
      ? new Set<RolloutRow>()
      : new Set(rows.filter((row) => isStale([row], versions, maxStaleness)));
    this.#stats.rowsYielded += rows.length;
    this.#stats.staleKept += stale.size;
    this.#delivered += rows.length;
    if (this.#delivered >= totalTurns) this.#isClosed = true;
    for (const { done, group } of rows) if (done) this.#settle(group);
    const failures = this.#failures.map(({ failure }) => failure);
    for (const { over } of this.#failures) if (over !== null) this.#settle(over);
    this.#failures = [];
    return new RolloutBatch({
      rows,
      shape,
      versionNames: versions?.names,
      versionIndex: versions?.currentIndex,
      stale,
      failures,
    });
  }
}
