import type { PolicyVersion } from "./policy_version.ts";
import { oldestVersion, type RolloutRow } from "./row.ts";

/**
 * What happens to rows older than the bound: `drop` leaves them out, `retry` runs their dialog anew,
 * `keep` gives them out marked ({@linkcode RolloutBatch.isStale}).
 */
export type OnStale = "drop" | "retry" | "keep";

/** How many versions the oldest token of these rows lies behind the present one. */
export function staleness(rows: readonly RolloutRow[], versions: PolicyVersion): number {
  const oldest = oldestVersion(rows);
  return oldest === null ? 0 : Math.max(0, versions.currentIndex - oldest);
}
