import { INCOMPLETE, UPDATING } from "../../internal/version_marks.ts";
/**
 * Weight versions that are no versions: a sync that runs, or that failed, leaves a mark in their
 * place. It says that these weights are neither the old nor the new ones, and whose sync this is.
 */

/** The mark of a sync that runs. */
export type Mark = `updating:${string}`;

/**
 * The mark of a sync that runs.
 *
 * @param beat Grows while the sync lives, so that others see that it does.
 */
export function updatingMark(owner: string, beat: number, version: string): Mark {
  return `${UPDATING}${owner}~${beat}:${version}`;
}

/** The weight version of servers that a failed sync left with some of the new weights. */
export function incompleteMark(version: string): string {
  return `${INCOMPLETE}${version}`;
}

/** Who runs the sync that a mark is of; `undefined` when the version is no such mark. */
export function ownerOf(version: string): string | undefined {
  if (!version.startsWith(UPDATING)) return undefined;
  return version.slice(UPDATING.length).split(":")[0]!.split("~")[0];
}
