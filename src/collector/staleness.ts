import { type PolicyVersion, UNKNOWN_VERSION } from "./policy_version.ts";
import { oldestVersion, type RolloutRow } from "./row.ts";

/**
 * What happens to rows older than the bound: `drop` leaves them out, `retry` runs their dialog again,
 * `keep` gives them out marked ({@linkcode RolloutBatch.isStale}).
 */
export type OnStale = "drop" | "retry" | "keep";

/**
 * How many versions the oldest token of these rows lies behind the present one; `Infinity` when one
 * is of weights that nobody here knows.
 */
export function staleness(rows: readonly RolloutRow[], versions: PolicyVersion): number {
  const oldest = oldestVersion(rows);
  if (oldest === UNKNOWN_VERSION) return Infinity;
  return oldest === null ? 0 : Math.max(0, versions.currentIndex - oldest);
}

/** Whether rows are older than a bound; those of unknown weights are, whatever the bound. */
export function isStale(
  rows: readonly RolloutRow[],
  versions: PolicyVersion,
  maxStaleness: number,
): boolean {
  const age = staleness(rows, versions);
  return age > maxStaleness || age === Infinity;
}
