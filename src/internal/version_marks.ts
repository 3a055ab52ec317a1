/**
 * Begin of the weight version of a server while a sync writes to it:
 * `updating:<owner>~<beat>~<groups>:<version>`.
 */
export const UPDATING = "updating:";
/** Begin of the weight version of a server that a failed sync left with some of the new weights. */
export const INCOMPLETE = "incomplete:";

/** Whether a weight version is the mark of a sync, running or failed, and so the name of no weights. */
export function isMark(version: string | null): boolean {
  return version !== null && (version.startsWith(UPDATING) || version.startsWith(INCOMPLETE));
}

/** The version that a mark speaks of; a version that is no mark is itself. */
export function versionInMark(version: string): string {
  if (version.startsWith(INCOMPLETE)) return version.slice(INCOMPLETE.length);
  if (!version.startsWith(UPDATING)) return version;
  const afterOwner = version.indexOf(":", UPDATING.length);
  return afterOwner < 0 ? "" : version.slice(afterOwner + 1);
}
