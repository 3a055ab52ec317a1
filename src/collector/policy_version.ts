import { FIRST_NAME, numberedName } from "../internal/version_names.ts";
import type { PauseMode } from "../client/types.ts";
import { ValidationError } from "../errors.ts";
import { isMark } from "../internal/version_marks.ts";

/** How versions are named: 0, 1, 2, … or a UUID each. */
export type VersionKind = "int" | "uuid";

/** Stands for the version of a token whose weights nobody here knows. */
export const UNKNOWN_VERSION: number = -1;

/** One version of the policy. */
export interface VersionEntry {
  /** Position in the history, from 0. */
  readonly index: number;
  /** The version's name: the index itself, or a UUID. */
  readonly version: number | string;
  /** The servers' name for the same weights, when it is known. */
  readonly weightVersion: string | null;
}

/** Which version a name that a server said belongs to. */
export interface KnownVersion {
  /** Index of the version. */
  readonly index: number;
  /** Whether it can be no other. */
  readonly isSure: boolean;
}

/** The versions, written down. */
export interface VersionsState {
  /** How they are named. */
  readonly kind: VersionKind;
  /** All versions, oldest first. */
  readonly entries: readonly Omit<VersionEntry, "index">[];
  /** Index of the present one. */
  readonly currentIndex: number;
}

/** The versions that the servers have called by one name: mostly one. */
interface NameRange {
  first: number;
  last: number;
}

/**
 * The versions that a policy went through. A weight sync calls {@linkcode PolicyVersion.increment};
 * {@linkcode PolicyVersion.find} tells to which version a server's own name belongs.
 *
 * A name counts only when somebody said what it stands for: the servers at the start, a sync that
 * {@linkcode PolicyVersion.announce | announced} it, or the increment. A server can answer with new
 * weights a moment before the sync reports its success; the announced name then gets the next index
 * at once, and the increment that follows takes that index. Any other name is unknown, and so are the
 * marks that a sync leaves while it writes (`updating:…`, `incomplete:…`).
 *
 * @example
 * ```ts
 * import { PolicyVersion } from "./policy_version.ts";
 *
 * const versions = new PolicyVersion("int");
 * versions.begin(["default"]);
 * versions.increment("step-1");
 * console.log(versions.current); // 1
 * console.log(versions.find("default")?.index); // 0
 * console.log(versions.find("base")); // undefined
 * ```
 */
export class PolicyVersion {
  /** How versions are named. */
  readonly kind: VersionKind;
  readonly #entries: { version: number | string; weightVersion: string | null }[] = [];
  readonly #ranges = new Map<string, NameRange>();
  readonly #announced = new Set<string>();
  readonly #pauseModes = new Set<PauseMode>();
  #currentIndex = 0;
  #hasHeard = false;

  /**
   * Begins at version 0, or at a fresh UUID.
   *
   * @throws {ValidationError} When the kind is neither `"int"` nor `"uuid"`.
   */
  constructor(kind: VersionKind = "int") {
    if (kind !== "int" && kind !== "uuid") {
      throw new ValidationError(
        `Cannot track policy versions as ${JSON.stringify(kind)}: use "int" or "uuid"`,
      );
    }
    this.kind = kind;
    this.#append();
  }

  /** The present version. */
  get current(): number | string {
    return this.#entries[this.#currentIndex]!.version;
  }

  /** Index of the present version. */
  get currentIndex(): number {
    return this.#currentIndex;
  }

  /** All versions so far, oldest first. */
  get history(): readonly VersionEntry[] {
    return this.#entries.slice(0, this.#currentIndex + 1).map((entry, index) => ({
      index,
      ...entry,
    }));
  }

  /** The versions so far, to go on with in another run. */
  state(): VersionsState {
    const { kind, currentIndex } = this;
    return { kind, entries: this.#entries.map((entry) => ({ ...entry })), currentIndex };
  }

  /**
   * Goes on with the versions of another run; only before any was counted. Throws a
   * {@linkcode ValidationError}.
   */
  restore(state: VersionsState): void {
    const { kind, entries, currentIndex } = state;
    if (this.#entries.length > 1 || this.#ranges.size > 0) {
      throw new ValidationError("Cannot restore policy versions: this tracker has counted already");
    }
    const isWhole = Array.isArray(entries) && Number.isInteger(currentIndex) &&
      currentIndex >= 0 && currentIndex < entries.length;
    if (kind !== this.kind || !isWhole) {
      throw new ValidationError(
        `Cannot restore policy versions of kind ${JSON.stringify(kind)} in a tracker of kind ` +
          `"${this.kind}": give a state of the same kind with entries and currentIndex`,
      );
    }
    this.#entries.length = 0;
    for (const { version } of entries) this.#entries.push({ version, weightVersion: null });
    for (const [index, { weightVersion }] of entries.entries()) {
      if (weightVersion !== null) this.#bind(weightVersion, index);
    }
    this.#currentIndex = currentIndex;
  }

  /** Names of all versions that a row can be tagged with, by index. */
  get names(): readonly string[] {
    return this.#entries.map((entry) => String(entry.version));
  }

  /**
   * Says what the servers call their weights at the start. More than one name are as many versions,
   * the oldest first: `default`, SGLang's own first name, comes before all, then those that end in a
   * number by that, others as they are given. Marks are left out. Does nothing once there is a name.
   */
  begin(weightVersions: readonly string[]): void {
    if (this.#ranges.size > 0) return;
    const names = [...new Set(weightVersions)].filter((name) => !isMark(name))
      .sort((a, b) => ageRank(a) - ageRank(b));
    for (const [i, name] of names.entries()) {
      if (i > 0) this.#currentIndex = this.#append();
      this.#bind(name, this.#currentIndex);
    }
  }

  /** Says that a sync is about to bring weights of this name; they become the next version. */
  announce(weightVersion: string): void {
    if (!this.#ranges.has(weightVersion)) this.#announced.add(weightVersion);
  }

  /**
   * Goes to the next version; `weightVersion` is the servers' name for it. Without one, and with the
   * name of an earlier version, the servers' names tell no more since when weights are served.
   */
  increment(weightVersion?: string): number | string {
    const seen = weightVersion === undefined ? undefined : this.#ranges.get(weightVersion);
    // A version that tokens were seen of before its sync reported has its index already.
    const isAhead = seen !== undefined && seen.first > this.#currentIndex;
    const before = this.#entries[this.#currentIndex]!.weightVersion;
    this.#currentIndex = isAhead ? seen.first : this.#append();
    const name = weightVersion ?? before;
    if (name !== null) this.#bind(name, this.#currentIndex);
    // What was announced before and not seen is on no server that this sync reached.
    this.#announced.clear();
    return this.current;
  }

  /** Says what some syncs do with running requests. */
  expectPauseMode(mode: PauseMode): void {
    this.#pauseModes.add(mode);
  }

  /** Whether every request is known to end before a sync or to begin after it. */
  get isRequestOfOneVersion(): boolean {
    return this.#pauseModes.size === 1 && this.#pauseModes.has("abort");
  }

  /** Whether some server has told what it calls its weights; one that then tells nothing is unknown. */
  get hasHeard(): boolean {
    return this.#hasHeard;
  }

  /**
   * The version that a server calls `weightVersion`; `undefined` when nobody said what that is.
   *
   * @param stampedIndex The version when the request began, for a name that several versions had.
   */
  find(weightVersion: string, stampedIndex: number = this.#currentIndex): KnownVersion | undefined {
    this.#hasHeard = true;
    if (isMark(weightVersion)) return undefined;
    const range = this.#ranges.get(weightVersion);
    if (range !== undefined) {
      const index = Math.min(Math.max(range.first, stampedIndex), range.last);
      return {
        index,
        isSure: range.first === range.last || stampedIndex === this.#currentIndex,
      };
    }
    if (this.#announced.has(weightVersion)) {
      this.#forgetAnnouncedBefore(weightVersion);
      const index = this.#append();
      this.#bind(weightVersion, index);
      return { index, isSure: true };
    }
    if (this.#ranges.size > 0) return undefined;
    // Nobody could tell what the servers call the present version: they do so now.
    this.#bind(weightVersion, this.#currentIndex);
    return { index: this.#currentIndex, isSure: true };
  }

  #bind(weightVersion: string, index: number): void {
    const range = this.#ranges.get(weightVersion);
    if (range === undefined) this.#ranges.set(weightVersion, { first: index, last: index });
    else range.last = index;
    this.#entries[index]!.weightVersion = weightVersion;
  }

  /** Of two announced versions the later one is newer: the earlier can get no index any more. */
  #forgetAnnouncedBefore(weightVersion: string): void {
    for (const name of this.#announced) {
      this.#announced.delete(name);
      if (name === weightVersion) return;
    }
  }

  #append(): number {
    const index = this.#entries.length;
    const version = this.kind === "int" ? index : crypto.randomUUID();
    this.#entries.push({ version, weightVersion: null });
    return index;
  }
}

/** What the names of weights are put in order by. */
function ageRank(name: string): number {
  if (name === FIRST_NAME) return -1;
  return numberedName(name)?.number ?? Number.MAX_SAFE_INTEGER;
}
