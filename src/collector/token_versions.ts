import type { PolicySample } from "./policy.ts";
import type { PolicyVersion } from "./policy_version.ts";

/** The version of each sampled token. */
export interface TokenVersions {
  /** Index of the policy version of each token `(R)`. */
  readonly versions: Int32Array;
  /** Whether each is known, rather than the oldest possible. */
  readonly exact: boolean;
}

/**
 * Tells which policy version made each token of a sample.
 *
 * `stampedIndex` is the version at the moment the call began. Weights only move on, so no token is
 * older than it, whatever a server says: a server whose name for its weights never changes would
 * otherwise date every sample to the first version.
 */
export function tokenVersions(
  sample: Pick<PolicySample, "ids" | "weightVersion" | "weightVersions">,
  options: { stampedIndex: number; history: PolicyVersion },
): TokenVersions {
  const { stampedIndex, history } = options;
  const versions = new Int32Array(sample.ids.length).fill(stampedIndex);
  if (sample.weightVersions !== null) {
    for (const span of sample.weightVersions) {
      const index = Math.max(stampedIndex, history.indexOf(span.version));
      versions.fill(index, span.start, span.end);
    }
    return { versions, exact: true };
  }
  if (sample.weightVersion === null) {
    return { versions, exact: history.currentIndex === stampedIndex };
  }
  // The name at the end is only that of the last token: earlier ones may be older.
  const endIndex = history.indexOf(sample.weightVersion);
  return { versions, exact: endIndex <= stampedIndex };
}
