import { FIRST_NAME } from "../internal/version_names.ts";
import { ValidationError } from "../errors.ts";
import { isMark, versionInMark } from "../internal/version_marks.ts";

/** What a ledger knows of a weight version. */
export type VersionStanding =
  /** The weights that every server should have. */
  | "current"
  /** Those of a sync that runs, or that failed after some server had all of them. */
  | "announced"
  /** Those that a server had before. */
  | "older"
  /** Nobody here gave this name. */
  | "unknown"
  /** Not a name: the mark of a sync that runs or failed. */
  | "mark"
  /** The server does not say its version. */
  | "untold";

/** The name of one sync's weights, from the moment when the sync begins. */
export interface ReservedVersion {
  /** What the servers will call the weights. */
  readonly version: string;
  /** The user's own name, when there was one. */
  readonly name: string | undefined;
  /** Unique id of the sync. */
  readonly syncId: string;
}

/**
 * The names of a fleet's weights. A name is given once and never again, whatever became of its sync:
 * after 1, 2, 3 and a sync 4 that failed comes 5. A name of the user's that was given before gets the
 * id of the sync behind it: `step-7`, then `step-7+1f0c93ab`.
 *
 * A fleet has one ledger: that of the engine, for all who sync through it. It also tells what a name
 * that a server says is worth.
 *
 * @example
 * ```ts
 * import { VersionLedger } from "./version_ledger.ts";
 *
 * const ledger = new VersionLedger();
 * const first = ledger.reserve(undefined, ["default"]);
 * console.log(first.version); // "1"
 * ledger.publish(first.version);
 * console.log(ledger.standingOf("default")); // "older"
 * ```
 */
export class VersionLedger {
  /** Every name that was given or found on a server. */
  readonly #names = new Set<string>();
  readonly #announced = new Set<string>();
  #highest = 0;
  #current: string | undefined;
  #isTold = false;

  /** The version that every server should have; `undefined` before the first sync. */
  get current(): string | undefined {
    return this.#current;
  }

  /** Whether the current version was brought by somebody else, and only told here. */
  get isTold(): boolean {
    return this.#isTold;
  }

  /** Another process has brought these weights to the servers. */
  tell(version: string): void {
    checkName(version);
    this.publish(version);
    this.#isTold = true;
  }

  /** Notes the versions of servers that were not given here; marks tell the version they speak of. */
  found(versions: Iterable<string | null>): void {
    for (const version of versions) {
      if (version !== null) this.#use(versionInMark(version));
    }
  }

  /**
   * A name for a sync's weights that no other weights had.
   *
   * @param name The user's; default the next number.
   * @param served What the servers call their weights now.
   * @throws {ValidationError} The name is empty or looks like a mark.
   */
  reserve(name: string | undefined, served: Iterable<string | null>): ReservedVersion {
    checkName(name);
    const syncId = crypto.randomUUID();
    const found = [...served].filter((version) => version !== null).map(versionInMark);
    if (name === undefined) {
      const highest = Math.max(this.#highest, ...found.map(numberOf));
      return { version: String(highest + 1), name, syncId };
    }
    // A server that is started again says "default" too, of its first weights.
    const isTaken = name === FIRST_NAME || this.#names.has(name) || found.includes(name);
    return { version: isTaken ? `${name}+${syncId.slice(0, 8)}` : name, name, syncId };
  }

  /** The same name again, or another where a server has got this one meanwhile. */
  review(reserved: ReservedVersion, served: Iterable<string | null>): ReservedVersion {
    const found = [...served];
    const next = this.reserve(reserved.name, found);
    const isNumber = reserved.name === undefined;
    const isFree = isNumber ? next.version === reserved.version : !found.includes(reserved.version);
    return isFree ? reserved : next;
  }

  /**
   * A name of its own for weights whose name others may have given meanwhile without our seeing it:
   * the reserved one with the id of the sync behind it.
   */
  setApart(reserved: ReservedVersion): ReservedVersion {
    this.#use(reserved.version);
    return { ...reserved, version: `${reserved.version}+${reserved.syncId.slice(0, 8)}` };
  }

  /** A sync is about to write weights of this name to servers; the name is used up from here on. */
  announce(version: string): void {
    this.#use(version);
    this.#announced.add(version);
  }

  /** Every server of a sync has these weights. */
  publish(version: string): void {
    this.#use(version);
    // What an earlier sync announced and did not reach is no news any more.
    this.#announced.clear();
    this.#current = version;
    this.#isTold = false;
  }

  /** What a name that a server says is worth. */
  standingOf(version: string | null): VersionStanding {
    if (version === null) return "untold";
    if (isMark(version)) return "mark";
    if (version === this.#current) return "current";
    if (this.#announced.has(version)) return "announced";
    return this.#names.has(version) ? "older" : "unknown";
  }

  #use(version: string): void {
    this.#names.add(version);
    this.#highest = Math.max(this.#highest, numberOf(version));
  }
}

/** Long enough for a path; each row and each line of a log may hold the name. */
const MOST_CHARACTERS = 1_000;

/** The number that a version is; 0 for other names. */
function numberOf(version: string): number {
  return /^[1-9]\d{0,14}$/.test(version) ? Number(version) : 0;
}

/** Refuses a name that cannot be one. */
export function checkName(name: string | undefined): void {
  if (name === undefined) return;
  const isText = typeof name === "string" && name.isWellFormed() && !/\p{Cc}/u.test(name);
  if (isText && name !== "" && name.length <= MOST_CHARACTERS && !isMark(name)) return;
  const shown = JSON.stringify(name);
  throw new ValidationError(
    `version must be a text of 1 to ${MOST_CHARACTERS} characters without control characters and ` +
      'half characters, that does not begin with "updating:" or "incomplete:", got ' +
      (shown.length > 100 ? `${shown.slice(0, 100)}… (${shown.length} characters)` : shown),
  );
}
