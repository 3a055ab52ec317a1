import { INCOMPLETE, UPDATING } from "../../internal/version_marks.ts";
/**
 * Weight versions that are no versions: a sync that runs, or that failed, leaves a mark in their
 * place. It says that these weights are neither the old nor the new ones, whose sync this is, and by
 * which groups the weights come.
 */

/** The mark of a sync that runs. */
export type Mark = `updating:${string}`;

/** What a mark of a sync that runs tells. */
export interface MarkParts {
  /** Who runs the sync. */
  readonly owner: string;
  /** Grows while the sync lives, so that others see that it does. */
  readonly beat: number;
  /** Names of the groups on this server, for who has to end them. */
  readonly groups: readonly string[];
  /** The version that the weights are to have. */
  readonly version: string;
}

/** The mark of a sync that runs. */
export function updatingMark({ owner, beat, groups, version }: MarkParts): Mark {
  const names = groups.length === 0 ? "" : `~${groups.map(withoutMeaning).join(",")}`;
  return `${UPDATING}${owner}~${beat}${names}:${version}`;
}

/** The weight version of servers that a failed sync left with some of the new weights. */
export function incompleteMark(version: string): string {
  return `${INCOMPLETE}${version}`;
}

/** Who runs the sync that a mark is of; `undefined` when the version is no such mark. */
export function ownerOf(version: string): string | undefined {
  return fieldsOf(version)?.[0];
}

/** Names of the groups by which the weights of a mark's sync come; none when there is no such mark. */
export function groupsOf(version: string): string[] {
  const names = fieldsOf(version)?.[2] ?? "";
  return names.split(",").filter((name) => name !== "").map(readName);
}

function fieldsOf(version: string): string[] | undefined {
  if (!version.startsWith(UPDATING)) return undefined;
  return version.slice(UPDATING.length).split(":")[0]!.split("~");
}

/** A name without the characters that part the fields of a mark. */
function withoutMeaning(name: string): string {
  return encodeURIComponent(name).replaceAll("~", "%7E");
}

function readName(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // Not written by us.
    return text;
  }
}
