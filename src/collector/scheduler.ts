import { StateError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { sleep, throwIfAborted, withDeadline } from "../internal/deadline.ts";
import type { Logger } from "../internal/logger.ts";
import { type DialogRun, type DialogSetting, EnvironmentFault, runDialog } from "./dialog.ts";
import type { Environment } from "./environment.ts";
import { Gate, type GateAnswer, type TurnRequest } from "./gate.ts";
import { Slices } from "./slices.ts";
import type { MutableStats } from "./stats.ts";
import type { RolloutRow, Trajectory } from "./row.ts";
import type { Task, TaskQueue } from "./tasks.ts";
import { watchDialog } from "./watched.ts";
import { asError, messageOf } from "../internal/thrown.ts";

/** What the scheduler tells and asks the collector. */
export interface SchedulerEvents {
  /** Whether a turn, or a new dialog, of this environment is wanted now. */
  wants(request: TurnRequest): boolean;
  /** Whether what is wanted of one environment may not be wanted of another. */
  readonly wantsDiffer: boolean;
  /** Runs a dialog as a part of its group. */
  withinGroup<T>(group: number, dialog: () => T): T;
  /** A turn was taken. */
  onRow(row: RolloutRow): void;
  /** A dialog came to its end. */
  onTrajectory(trajectory: Trajectory): void;
  /** A try did not come to its end; these are the rows that it made. */
  onDiscard(rows: readonly RolloutRow[]): void;
  /** A dialog failed in all its tries; tells whether it is given up or run again all the same. */
  onFailure(task: Task, error: Error): "given up" | "again";
  /** A place stopped for a reason that no dialog explains. */
  onCrash(error: Error): void;
  /** Something changed that a waiting reader may want to look at. */
  onChange(): void;
}

/** Options of {@linkcode Scheduler}. */
export interface SchedulerOptions {
  /** The collector, as traces and metrics know it. */
  readonly collector: object;
  readonly slots: number;
  readonly openEnvironment: (index: number) => Environment | Promise<Environment>;
  /** Whether environments belong to the scheduler, which then closes and replaces them. */
  readonly ownsEnvironments: boolean;
  readonly tasks: TaskQueue;
  readonly dialogRetries: number;
  readonly setting: DialogSetting;
  readonly stats: MutableStats;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly events: SchedulerEvents;
}

const CLOSE_TIMEOUT_MS = 10_000;
const FIRST_RETRY_PAUSE_MS = 50;
const LONGEST_RETRY_PAUSE_MS = 2_000;

/** A dialog at a place, and what ends it. */
interface Booking {
  readonly task: Task;
  readonly ending: AbortController;
}

/** Runs one dialog after the other at each place, as fast as turns are wanted. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #gate: Gate;
  readonly #slices: Slices;
  /** By place. Not a map: one whose entries come and go holds many that are gone. */
  readonly #booked: (Booking | null)[];
  #running = 0;
  #epoch = 0;
  #loops: Promise<void>[] = [];

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#gate = new Gate((request) => this.#answer(request));
    this.#slices = new Slices(options.clock);
    this.#booked = Array.from({ length: options.slots }, () => null);
  }

  /** Begins; nothing happens until turns are wanted. */
  start(): void {
    const { slots, signal } = this.#options;
    // One listener for all: taking one off a signal that has thousands is slow.
    if (signal.aborted) this.#endAll();
    else signal.addEventListener("abort", () => this.#endAll(), { once: true });
    this.#loops = Array.from({ length: slots }, (_, index) => this.#runSlot(index));
  }

  /** Asks again which turns are wanted. */
  update(): void {
    this.#gate.update();
  }

  /** Makes every place leave its dialog and begin another. */
  restartAll(): void {
    this.#epoch++;
  }

  /** Ends the members of a group that still run. */
  abandonGroup(group: number): void {
    for (const booking of this.#booked) {
      if (booking?.task.group !== group) continue;
      booking.ending.abort(new StateError("The group does not need this dialog"));
    }
  }

  /** Whether no dialog runs and none waits. */
  get isExhausted(): boolean {
    return this.#running === 0 && !this.#options.tasks.hasTask;
  }

  /** Whether dialogs run, but none of them may take a turn, and no other one waits to begin. */
  get isStalled(): boolean {
    return this.#running > 0 && this.#gate.waitingTurns === this.#running &&
      !this.#options.tasks.hasTask;
  }

  /** Dialogs that run. */
  get running(): number {
    return this.#running;
  }

  /** Resolves when every place has stopped; the signal must have fired. */
  async stopped(): Promise<void> {
    await Promise.all(this.#loops);
  }

  #answer(request: TurnRequest): GateAnswer {
    const { tasks, events } = this.#options;
    if (request.begins && !tasks.hasTask) return "all wait";
    if (!events.wants(request)) return events.wantsDiffer ? "wait" : "all wait";
    // Booked here and not when the place wakes, so that two cannot be promised one dialog.
    if (request.begins) {
      const task = tasks.take()!;
      this.#booked[request.environment] = { task, ending: new AbortController() };
      this.#running++;
      if (task.attempt === 0) this.#options.stats.dialogsStarted++;
    }
    return "pass";
  }

  #endAll(): void {
    const { reason } = this.#options.signal;
    this.#gate.close(reason);
    for (const booking of this.#booked) booking?.ending.abort(reason);
  }

  async #runSlot(index: number): Promise<void> {
    const { signal, stats } = this.#options;
    let environment: Environment | null = null;
    try {
      while (!signal.aborted) {
        await this.#gate.pass({ environment: index, begins: true });
        await this.#slices.turn();
        const booking = this.#booked[index]!;
        const { task, ending } = booking;
        try {
          environment ??= await this.#open(index);
          // Its group may have come to its end meanwhile.
          throwIfAborted(ending.signal, `dialog ${task.dialog}`);
          const run = { ...task, index, environment, signal: ending.signal };
          const { collector, events } = this.#options;
          await events.withinGroup(
            task.group,
            () => watchDialog(collector, run, () => this.#runTask(run)),
          );
        } catch (error) {
          if (error instanceof EnvironmentFault && !signal.aborted) {
            environment = await this.#replace(environment);
          }
          if (ending.signal.aborted) stats.dialogsAbandoned++;
          else await this.#meetFailure(booking, error);
          if (signal.aborted) return;
        } finally {
          this.#booked[index] = null;
          this.#running--;
          this.#options.events.onChange();
        }
      }
    } catch (error) {
      if (!signal.aborted) this.#options.events.onCrash(asError(error));
    } finally {
      this.#options.events.onChange();
      await this.#close(environment);
    }
  }

  async #runTask(run: DialogRun): Promise<readonly RolloutRow[]> {
    const { events, stats, setting } = this.#options;
    const epoch = this.#epoch;
    const rows: RolloutRow[] = [];
    let isWhole = false;
    using _left = { [Symbol.dispose]: () => isWhole || events.onDiscard(rows) };
    for await (const row of runDialog(run, setting)) {
      throwIfAborted(run.signal, `dialog ${run.dialog}`);
      rows.push(row);
      stats.turns++;
      stats.tokens += row.responseIds.length;
      events.onRow(row);
      if (row.done) {
        stats.dialogsCompleted++;
        isWhole = true;
        events.onTrajectory({ dialog: run.dialog, attempt: run.attempt, rows });
        return rows;
      }
      events.onChange();
      // The first turn was let through together with the dialog; each further one asks here.
      await this.#gate.pass({ environment: run.index, begins: false }, run.signal);
      await this.#slices.turn();
      throwIfAborted(run.signal, `dialog ${run.dialog}`);
      if (epoch !== this.#epoch) {
        stats.dialogsAbandoned++;
        return rows;
      }
    }
    return rows;
  }

  async #open(index: number): Promise<Environment> {
    const { openEnvironment, setting, signal, clock } = this.#options;
    try {
      return await withDeadline({
        phase: `opening environment ${index}`,
        timeoutMs: setting.environmentTimeoutMs,
        signal,
        clock,
      }, async () => await openEnvironment(index));
    } catch (error) {
      if (signal.aborted) throw error;
      const reason = messageOf(error);
      throw new EnvironmentFault(`Environment ${index} could not be made: ${reason}`, {
        cause: error,
      });
    }
  }

  /** A failed environment of our own is closed and made again; a lent one is reset and used on. */
  async #replace(environment: Environment | null): Promise<Environment | null> {
    if (!this.#options.ownsEnvironments) return environment;
    await this.#close(environment);
    return null;
  }

  async #close(environment: Environment | null): Promise<void> {
    if (!this.#options.ownsEnvironments || environment?.close === undefined) return;
    const { clock, logger } = this.#options;
    try {
      await withDeadline(
        { phase: "closing an environment", timeoutMs: CLOSE_TIMEOUT_MS, clock },
        async () => await environment.close?.(),
      );
    } catch (error) {
      logger.warn(`An environment could not be closed: ${error}`);
    }
  }

  async #meetFailure({ task, ending }: Booking, thrown: unknown): Promise<void> {
    const { dialogRetries, tasks, stats, events, logger, clock } = this.#options;
    const error = asError(thrown);
    if (task.attempt >= dialogRetries && events.onFailure(task, error) === "given up") {
      stats.dialogsFailed++;
      return;
    }
    logger.warn(`Dialog ${task.dialog} failed in try ${task.attempt + 1}: ${error.message}`);
    const pauseMs = Math.min(LONGEST_RETRY_PAUSE_MS, FIRST_RETRY_PAUSE_MS * 2 ** task.attempt);
    const { signal } = ending;
    await sleep(pauseMs, { signal, clock, phase: "pause before a retry" }).catch((error) => {
      if (!signal.aborted) throw error;
    });
    // Also in the moment between the end of the pause and this line its group may have ended.
    if (signal.aborted) {
      stats.dialogsAbandoned++;
      return;
    }
    stats.retries++;
    tasks.again(task);
  }
}
