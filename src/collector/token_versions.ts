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
  const endIndex = history.indexOf(sample.weightVersion);
  if (endIndex <= stampedIndex) return { versions, exact: true };
  // The call began before the sync reported, and maybe waited for it: the name at the end is that of
  // the last token, and of all only where no request goes through a sync.
  if (!history.isRequestOfOneVersion) return { versions, exact: false };
  return { versions: versions.fill(endIndex), exact: true };
}
