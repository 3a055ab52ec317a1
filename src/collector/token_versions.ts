import type { PolicySample } from "./policy.ts";
import { type PolicyVersion, UNKNOWN_VERSION } from "./policy_version.ts";

/** The version of each sampled token. */
export interface TokenVersions {
  /** Index of the policy version of each token `(R)`; {@linkcode UNKNOWN_VERSION} where unknown. */
  readonly versions: Int32Array;
  /** Whether each is known, rather than the oldest possible. */
  readonly exact: boolean;
}

/**
 * Tells which policy version made each token of a sample: the one that the server said, also where it
 * is older than it should be. A name that nobody gave makes its tokens unknown, and so does none where
 * others were told before. Only where no server says anything is it `stampedIndex`, the version at the
 * moment the call began.
 */
export function tokenVersions(
  sample: Pick<PolicySample, "ids" | "weightVersion" | "weightVersions">,
  options: { stampedIndex: number; history: PolicyVersion },
): TokenVersions {
  const { stampedIndex, history } = options;
  const versions = new Int32Array(sample.ids.length);
  if (sample.weightVersions !== null) {
    // Tokens without a span were not spoken of.
    versions.fill(stampedIndex);
    let told = 0;
    let exact = true;
    for (const { version, start, end } of sample.weightVersions) {
      const known = history.find(version, stampedIndex);
      versions.fill(known?.index ?? UNKNOWN_VERSION, start, end);
      exact &&= known?.isSure === true || start === end;
      told += end - start;
    }
    return { versions, exact: exact && told >= versions.length };
  }
  if (sample.weightVersion === null) {
    if (history.hasHeard) return { versions: versions.fill(UNKNOWN_VERSION), exact: false };
    return {
      versions: versions.fill(stampedIndex),
      exact: history.currentIndex === stampedIndex,
    };
  }
  const known = history.find(sample.weightVersion, stampedIndex);
  if (known === undefined) return { versions: versions.fill(UNKNOWN_VERSION), exact: false };
  const { index, isSure } = known;
  if (index === stampedIndex) return { versions: versions.fill(index), exact: isSure };
  // The name at the end is that of the last token, and of all only where no request goes through a
  // sync. Otherwise an older server's tokens are at most as new, and a newer one's may be as old as
  // the call.
  const isOfOne = history.isRequestOfOneVersion;
  if (index < stampedIndex) {
    return { versions: versions.fill(index), exact: isSure && (isOfOne || index === 0) };
  }
  return { versions: versions.fill(isOfOne ? index : stampedIndex), exact: isSure && isOfOne };
}

/** The span of a sample of which the server said one weight version only; `null` where it said none. */
export function wholeSpan(
  { ids, weightVersion }: Pick<PolicySample, "ids" | "weightVersion">,
): PolicySample["weightVersions"] {
  if (weightVersion === null) return null;
  return [{ version: weightVersion, start: 0, end: ids.length }];
}
