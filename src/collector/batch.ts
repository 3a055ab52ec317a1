import { ValidationError } from "../errors.ts";
import { type JoinedRow, joinTurns } from "../rollout/rows.ts";
import type { RolloutRow, Trajectory } from "./row.ts";

/** A dialog that gave no rows, and why. */
export interface DialogFailure {
  /** Number of the dialog. */
  readonly dialog: number;
  /** Tries that were made. */
  readonly attempts: number;
  /** Why the last one failed. */
  readonly error: Error;
}

/** Turns of a dialog whose ids go on from each other, as one row. */
export interface JoinedDialogRow extends JoinedRow<RolloutRow> {
  /** Number of the dialog. */
  readonly dialog: number;
  /** Which try this is. */
  readonly attempt: number;
}

/** What went into a batch besides its rows. */
export interface RolloutBatchInit {
  /** The rows, first dimension first. */
  readonly rows: readonly RolloutRow[];
  /** Sizes of the dimensions; their product is the number of rows. */
  readonly shape: readonly number[];
  /** Names of the policy versions by index; empty without a tracker. */
  readonly versionNames?: readonly string[] | undefined;
  /** Index of the policy version when the batch was given out; `null` without a tracker. */
  readonly versionIndex?: number | null | undefined;
  /** Which rows are older than the staleness bound. */
  readonly stale?: ReadonlySet<RolloutRow> | undefined;
  /** Dialogs that failed since the last batch. */
  readonly failures?: readonly DialogFailure[] | undefined;
}

/**
 * Rows that belong together. Its shape is `(environments, turns)` for rows collected in step,
 * `(rows)` otherwise; the arrays inside a row stay ragged.
 */
export class RolloutBatch {
  /** The rows, first dimension first. */
  readonly rows: readonly RolloutRow[];
  /** Sizes of the dimensions. */
  readonly shape: readonly number[];
  /** Names of the policy versions by index; empty without a tracker. */
  readonly versionNames: readonly string[];
  /** Index of the policy version when the batch was given out; `null` without a tracker. */
  readonly versionIndex: number | null;
  /** Dialogs that failed since the last batch, where failures are skipped. */
  readonly failures: readonly DialogFailure[];
  readonly #stale: ReadonlySet<RolloutRow>;

  /** Makes a batch; throws a {@linkcode ValidationError} when shape and rows disagree. */
  constructor(init: RolloutBatchInit) {
    const size = init.shape.reduce((product, dimension) => product * dimension, 1);
    if (size !== init.rows.length) {
      throw new ValidationError(
        `Cannot make a batch: shape (${init.shape.join(", ")}) has ${size} places ` +
          `for ${init.rows.length} rows`,
      );
    }
    this.rows = init.rows;
    this.shape = init.shape;
    this.versionNames = init.versionNames ?? [];
    this.versionIndex = init.versionIndex ?? null;
    this.failures = init.failures ?? [];
    this.#stale = init.stale ?? new Set();
  }

  /** Number of rows. */
  get length(): number {
    return this.rows.length;
  }

  /** Whether a row is older than the staleness bound and was kept all the same. */
  isStale(row: RolloutRow): boolean {
    return this.#stale.has(row);
  }

  /** The same rows with a single dimension. */
  flatten(): RolloutBatch {
    return new RolloutBatch({ ...this, shape: [this.rows.length], stale: this.#stale });
  }

  /**
   * The turns of each dialog laid behind each other: one row of ids for all turns whose ids go on
   * from each other, and one for each branch. A sampled id is in exactly one of them, with the mask,
   * log-probability and version that it was sampled with.
   */
  joined(): JoinedDialogRow[] {
    return this.trajectories().flatMap(({ dialog, attempt, rows }) =>
      joinTurns(rows).map((row) => ({ ...row, dialog, attempt }))
    );
  }

  /** The dialogs by group, groups and members in order of first appearance. */
  groups(): Trajectory[][] {
    const byGroup = new Map<number, Trajectory[]>();
    for (const trajectory of this.trajectories()) {
      const { group } = trajectory.rows[0]!;
      const known = byGroup.get(group);
      if (known !== undefined) known.push(trajectory);
      else byGroup.set(group, [trajectory]);
    }
    return [...byGroup.values()];
  }

  /** The rows by dialog and try, in order of first appearance. */
  trajectories(): Trajectory[] {
    const byTry = new Map<string, { dialog: number; attempt: number; rows: RolloutRow[] }>();
    for (const row of this.rows) {
      const key = `${row.dialog}/${row.attempt}`;
      const known = byTry.get(key);
      if (known !== undefined) known.rows.push(row);
      else byTry.set(key, { dialog: row.dialog, attempt: row.attempt, rows: [row] });
    }
    return [...byTry.values()];
  }
}
