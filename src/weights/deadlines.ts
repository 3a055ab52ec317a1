import { ValidationError } from "../errors.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Longest waits, in milliseconds, by step. */
export interface WeightDeadlines {
  /** Reading what a server is. Default 10 000. */
  readonly probeMs: number;
  /** Opening the source and reading its names. Default 60 000. */
  readonly sourceMs: number;
  /** All servers joining the group. Default 60 000. */
  readonly initMs: number;
  /** Pausing; in mode `abort` the server answers when nothing runs. Default 30 000. */
  readonly pauseMs: number;
  /** Running requests coming to an end after the pause. Default 30 000. */
  readonly drainMs: number;
  /** Emptying the prefix cache. Default 15 000. */
  readonly flushMs: number;
  /** Opening a session, and waiting for a session to end that is not ours. Default 30 000. */
  readonly beginMs: number;
  /**
   * How long another trainer's mark may stay the same until that trainer is counted as dead; one that
   * lives writes it again every second. At least 3000. Default: `beginMs` when that is given, else
   * half more than the longest of the other steps (180 000).
   */
  readonly takeoverMs: number;
  /** Waiting for other trainers that live. Default 3 600 000. */
  readonly turnMs: number;
  /** One bucket: reading it, sending it, and the servers loading it. Default 120 000. */
  readonly updateMs: number;
  /** Closing the session; the server may quantise here. Default 120 000. */
  readonly endMs: number;
  /** Every request that proves the landing. Default 60 000. */
  readonly verifyMs: number;
  /** Resuming, versions and other short calls. Default 10 000. */
  readonly controlMs: number;
  /**
   * A server once the others are done with a step, or wait for it in an update. It is then left
   * behind, because the others are paused meanwhile. Default 5 000.
   */
  readonly stragglerMs: number;
  /**
   * The source giving 512 MiB of a bucket (or less) while the servers are paused; longer for more.
   * Default 8 000.
   */
  readonly readMs: number;
  /** Each step of cleaning up after a failure or at the end. Default 10 000. */
  readonly destroyMs: number;
}

/** The defaults of {@linkcode WeightDeadlines}. */
export const DEFAULT_DEADLINES: WeightDeadlines = {
  probeMs: 10_000,
  sourceMs: 60_000,
  initMs: 60_000,
  pauseMs: 30_000,
  drainMs: 30_000,
  flushMs: 15_000,
  beginMs: 30_000,
  takeoverMs: 180_000,
  turnMs: 3_600_000,
  updateMs: 120_000,
  endMs: 120_000,
  verifyMs: 60_000,
  controlMs: 10_000,
  stragglerMs: 5_000,
  readMs: 8_000,
  destroyMs: 10_000,
};

const DEADLINE_NAMES = {
  probeMs: true,
  sourceMs: true,
  initMs: true,
  pauseMs: true,
  drainMs: true,
  flushMs: true,
  beginMs: true,
  updateMs: true,
  endMs: true,
  verifyMs: true,
  controlMs: true,
  destroyMs: true,
  takeoverMs: true,
  turnMs: true,
  stragglerMs: true,
  readMs: true,
} as const satisfies OptionNames<WeightDeadlines>;

/**
 * Checks the deadlines and fills in the defaults.
 *
 * @throws {ValidationError} A name is unknown, or a wait is not above 0.
 */
export function resolveDeadlines(given: Partial<WeightDeadlines> | undefined): WeightDeadlines {
  checkOptionNames(given ?? {}, DEADLINE_NAMES, "`deadlines`");
  for (const [name, value] of Object.entries(given ?? {})) {
    if (!(value > 0)) {
      throw new ValidationError(`deadlines.${name} must be above 0 milliseconds, got ${value}`);
    }
  }
  const { takeoverMs: _takeover, turnMs: _turn, ...steps } = { ...DEFAULT_DEADLINES, ...given };
  const takeoverMs = given?.beginMs ?? 1.5 * Math.max(...Object.values(steps));
  return { ...DEFAULT_DEADLINES, takeoverMs, ...given };
}
