import { ValidationError } from "../errors.ts";
import { isCount } from "../internal/json.ts";
import type { VersionsState } from "./policy_version.ts";
import { type CollectorStats, emptyStats, type MutableStats } from "./stats.ts";

/** Name and version of the form of {@linkcode CollectorState}. */
export const COLLECTOR_STATE_SCHEMA = "sglang-rl.collector/1";

/** Where a collector stands, as plain JSON. */
export interface CollectorState {
  /** `sglang-rl.collector/1` */
  readonly schema: "sglang-rl.collector/1";
  /** Members that each group begins, spares too; 1 without groups. */
  readonly membersPerGroup: number;
  /** Groups (without groups: dialogs) that are given out, left out or given up. */
  readonly settled: {
    /** All below this number. */
    readonly below: number;
    /** The others, rising. */
    readonly above: readonly number[];
  };
  /** Rows that were given out. */
  readonly delivered: number;
  /** What was done so far; what ran or waited counts as abandoned, its rows as unused. */
  readonly stats: Omit<CollectorStats, "retriesWaiting">;
  /** The policy versions; `null` without a tracker. */
  readonly versions: VersionsState | null;
}

/** The state of a collector whose running dialogs, and waiting rows, do not count. */
export function stateOf({ membersPerGroup, queue, stats, versions }: {
  readonly membersPerGroup: number;
  readonly queue: Pick<CollectorState, "settled" | "delivered">;
  readonly stats: MutableStats;
  readonly versions: VersionsState | null;
}): CollectorState {
  const { dialogsStarted, dialogsCompleted, dialogsFailed } = stats;
  const { rowsYielded, rowsStale, turns } = stats;
  return {
    schema: COLLECTOR_STATE_SCHEMA,
    membersPerGroup,
    ...queue,
    stats: {
      ...stats,
      dialogsAbandoned: dialogsStarted - dialogsCompleted - dialogsFailed,
      rowsUnused: turns - rowsYielded - rowsStale,
    },
    versions,
  };
}

/**
 * Checks a state that comes from a file.
 *
 * @throws {ValidationError} When it is not one of this collector.
 */
export function checkState(state: CollectorState, membersPerGroup: number): void {
  if (state?.schema !== COLLECTOR_STATE_SCHEMA) {
    refuse(`its schema is ${state?.schema}, expected ${COLLECTOR_STATE_SCHEMA}`);
  }
  if (state.membersPerGroup !== membersPerGroup) {
    refuse(
      `it has ${state.membersPerGroup} members in a group, this collector ${membersPerGroup}: ` +
        "groupSize and overSample must be those of the first run",
    );
  }
  const { below, above } = state.settled ?? {};
  const isRising = Array.isArray(above) &&
    above.every((group, i) => isCount(group) && group > (above[i - 1] ?? below));
  if (!isCount(below) || !isRising) refuse("its settled groups are no rising numbers");
  if (!isCount(state.delivered)) refuse("delivered is no whole number");
  for (const name of Object.keys(emptyStats()) as (keyof MutableStats)[]) {
    if (!isCount(state.stats?.[name])) refuse(`stats.${name} is no whole number`);
  }
}

function refuse(reason: string): never {
  throw new ValidationError(`Cannot restore this state of a collector: ${reason}`);
}
