import type { PauseMode } from "../client/types.ts";
import { ValidationError } from "../errors.ts";

/** How versions are named: 0, 1, 2, … or a UUID each. */
export type VersionKind = "int" | "uuid";

/** One version of the policy. */
export interface VersionEntry {
  /** Position in the history, from 0. */
  readonly index: number;
  /** The version's name: the index itself, or a UUID. */
  readonly version: number | string;
  /** The servers' name for the same weights, when it is known. */
  readonly weightVersion: string | null;
}

/**
 * The versions that a policy went through. A weight sync calls {@linkcode PolicyVersion.increment};
 * {@linkcode PolicyVersion.indexOf} tells to which version a server's own name belongs.
 *
 * A server can answer with new weights a moment before the sync reports its success. A name that is
 * not known yet therefore announces the next version: it gets the next index at once, and the
 * increment that follows takes that index.
 *
 * @example
 * ```ts
 * import { PolicyVersion } from "./policy_version.ts";
 *
 * const versions = new PolicyVersion("int");
 * versions.increment("step-1");
 * console.log(versions.current); // 1
 * ```
 */
export class PolicyVersion {
  /** How versions are named. */
  readonly kind: VersionKind;
  readonly #entries: { version: number | string; weightVersion: string | null }[] = [];
  readonly #indexByName = new Map<string, number>();
  readonly #pauseModes = new Set<PauseMode>();
  #currentIndex = 0;

  /** Begins at version 0, or at a fresh UUID. Throws a {@linkcode ValidationError}. */
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

  /** Index of the present version: the number of increments so far. */
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

  /** Names of all versions that a row can be tagged with, by index. */
  get names(): readonly string[] {
    return this.#entries.map((entry) => String(entry.version));
  }

  /** Goes to the next version; `weightVersion` is the servers' name for it. */
  increment(weightVersion?: string): number | string {
    this.#currentIndex++;
    if (this.#currentIndex === this.#entries.length) this.#append();
    if (weightVersion !== undefined) this.#bind(weightVersion, this.#currentIndex);
    return this.current;
  }

  /** Says that the servers call the present version `weightVersion`. */
  bindCurrent(weightVersion: string): void {
    this.#bind(weightVersion, this.#currentIndex);
  }

  /** Says what some syncs do with running requests. */
  expectPauseMode(mode: PauseMode): void {
    this.#pauseModes.add(mode);
  }

  /** Whether every request is known to end before a sync or to begin after it. */
  get isRequestOfOneVersion(): boolean {
    return this.#pauseModes.size === 1 && this.#pauseModes.has("abort");
  }

  /** Index of the version that the servers call `weightVersion`. */
  indexOf(weightVersion: string): number {
    const known = this.#indexByName.get(weightVersion);
    if (known !== undefined) return known;
    const current = this.#entries[this.#currentIndex]!;
    if (current.weightVersion === null) {
      this.#bind(weightVersion, this.#currentIndex);
      return this.#currentIndex;
    }
    const announced = this.#append();
    this.#bind(weightVersion, announced);
    return announced;
  }

  #bind(weightVersion: string, index: number): void {
    this.#indexByName.set(weightVersion, index);
    this.#entries[index]!.weightVersion = weightVersion;
  }

  #append(): number {
    const index = this.#entries.length;
    const version = this.kind === "int" ? index : crypto.randomUUID();
    this.#entries.push({ version, weightVersion: null });
    return index;
  }
}
