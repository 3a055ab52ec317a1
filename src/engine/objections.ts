/** Why a server may not serve, by what it and the others say of their weights alone. */
import { isMark, UPDATING } from "../internal/version_marks.ts";
import { FIRST_NAME, numberedName } from "../internal/version_names.ts";

/** Why nobody may be compared with servers that say these versions, if so. */
export function objectionToMarks(said: readonly (string | null)[]): string | undefined {
  const marks = said.filter(isMark);
  const running = marks.find((mark) => mark!.startsWith(UPDATING));
  if (running !== undefined) return `somebody syncs the other servers now ("${running}")`;
  if (marks.length === 0 || marks.length < said.length) return undefined;
  return `a sync of the other servers is under way, or left them half-way ("${marks[0]}")`;
}

/**
 * Why a serving server may not go on beside others: it was left out when somebody brought them new
 * weights.
 *
 * @param left Names that serving servers had before others brought them new weights.
 */
export function objectionToLaggard(
  said: string | null,
  others: readonly (string | null)[],
  left: ReadonlySet<string>,
): string | undefined {
  if (said === null) return undefined;
  const names = others.filter((version) => version !== null);
  // By its name alone a server is compared only with names that nobody was seen to leave: weights
  // that were taken back have the smaller number and are the newer ones.
  if (!left.has(said)) {
    const newer = names.find((name) => !left.has(name) && isOlderName(said, name));
    return newer === undefined
      ? undefined
      : `its weights are "${said}", older by their name than the "${newer}" of others`;
  }
  const newer = names.find((version) => !left.has(version));
  if (newer === undefined) return undefined;
  return `its weights are "${said}"; others that had them have "${newer}" now`;
}

/**
 * Whether a name is older than another by itself: `default`, which no sync gives, than all others, and
 * of two that differ in the number at their end the one with the smaller number.
 */
function isOlderName(one: string, other: string): boolean {
  if (one === FIRST_NAME || other === FIRST_NAME) return one === FIRST_NAME && other !== FIRST_NAME;
  const [a, b] = [numberedName(one), numberedName(other)];
  return a !== undefined && b !== undefined && a.before === b.before && a.number < b.number;
}
