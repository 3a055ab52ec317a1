import { StateError, ValidationError } from "../errors.ts";
import { NEWEST, parseAdapterName } from "./names.ts";
import type { AdapterUpload } from "./upload.ts";

/** One version on its way through the fleet. */
export interface AdapterVersion {
  readonly name: string;
  readonly policy: string;
  readonly number: number;
  readonly upload: AdapterUpload;
  readonly loadMs: number;
  readonly unloadMs: number;
  /** Servers that have it, by address. */
  readonly on: Set<string>;
  state: "loading" | "ready" | "retired" | "unloading";
  /** An unload failed: it is tried again with the next sync. */
  isStuck: boolean;
  /** Calls that use it. */
  leases: number;
}

/** An adapter that some server may have. */
export interface LoadedAdapter {
  /** Its name. */
  readonly name: string;
  /** Calls that use it. */
  readonly uses: number;
  /** Servers that have it. */
  readonly servers: number;
}

/** The versions of a fleet's adapters: which there are, which may be asked for, who has them. */
export class AdapterVersions {
  /** The newest version of each policy, by name. */
  readonly newest: Map<string, string> = new Map();
  readonly #versions = new Map<string, AdapterVersion>();

  /** How many there are, in whatever state. */
  get size(): number {
    return this.#versions.size;
  }

  /** Names that may be asked for, oldest first. */
  get ready(): readonly string[] {
    return this.inState("ready").map(({ name }) => name);
  }

  /** Everything that some server may still have, with the calls that use it. */
  get loaded(): readonly LoadedAdapter[] {
    return [...this.#versions.values()].map(({ name, leases, on }) => ({
      name,
      uses: leases,
      servers: on.size,
    }));
  }

  /**
   * The adapter that a request means: `"newest"` (of the only policy), a policy's name for its newest
   * version, or a version. Names that were never given here are left as they are.
   *
   * @throws {StateError} There is none yet, or the version is retired.
   * @throws {ValidationError} There are several policies, and `"newest"` does not say which.
   */
  resolve(lora: string): string {
    if (lora === NEWEST) {
      const [first, ...others] = this.newest.values();
      if (first === undefined) {
        throw new StateError(
          `There is no adapter yet: call updateAdapter() before lora: "${NEWEST}"`,
        );
      }
      if (others.length === 0) return first;
      const policies = [...this.newest.keys()].join(", ");
      throw new ValidationError(
        `lora: "${NEWEST}" does not say of which policy: there are ${policies}. Give its name`,
      );
    }
    const newest = this.newest.get(lora);
    if (newest !== undefined) return newest;
    const parsed = parseAdapterName(lora);
    if (parsed === undefined || !this.newest.has(parsed.policy)) return lora;
    if (this.#versions.get(lora)?.state === "ready") return lora;
    const known = this.ready.filter((name) => parseAdapterName(name)?.policy === parsed.policy);
    throw new StateError(
      `The adapter "${lora}" is no longer there, or not yet: of "${parsed.policy}" there are ` +
        `${known.join(", ")}. keep of LoraSyncScheme says how many stay`,
    );
  }

  /** Whether there is one of this name. */
  has(name: string): boolean {
    return this.#versions.has(name);
  }

  /** Takes one in. */
  add(version: AdapterVersion): void {
    this.#versions.set(version.name, version);
  }

  /** Lets requests use one from now on; it is the newest of its policy. */
  publish(version: AdapterVersion): void {
    version.state = "ready";
    this.newest.set(version.policy, version.name);
  }

  /** What is older than the newest `keep` of a policy. */
  olderThan(policy: string, keep: number): readonly AdapterVersion[] {
    return this.inState("ready").filter((version) => version.policy === policy).slice(0, -keep);
  }

  /** Lets no request use any. */
  retireAll(): void {
    this.newest.clear();
    for (const version of this.inState("ready")) version.state = "retired";
  }

  /** Forgets one that no server has. */
  delete({ name }: AdapterVersion): void {
    this.#versions.delete(name);
  }

  /** Keeps one in use until disposed, and then calls `onFree`; of none of ours it does nothing. */
  lease(name: string | undefined, onFree: () => void): Disposable {
    const version = name === undefined ? undefined : this.#versions.get(name);
    if (version === undefined) return { [Symbol.dispose]() {} };
    version.leases++;
    let hasEnded = false;
    return {
      [Symbol.dispose]: () => {
        if (hasEnded) return;
        hasEnded = true;
        version.leases--;
        onFree();
      },
    };
  }

  /** Those in a state, oldest first. */
  inState(state: AdapterVersion["state"]): AdapterVersion[] {
    return [...this.#versions.values()].filter((version) => version.state === state)
      .sort((a, b) => a.number - b.number);
  }

  /** What a server lacks of what requests may ask for. */
  missing(url: string): AdapterVersion[] {
    return this.inState("ready").filter(({ on }) => !on.has(url));
  }

  /** How many a server may have. */
  countOn(url: string): number {
    return [...this.#versions.values()].filter(({ on }) => on.has(url)).length;
  }

  /** What a server lists is what it has. */
  believe(url: string, loaded: readonly string[]): void {
    for (const version of this.inState("ready")) {
      if (!loaded.includes(version.name)) version.on.delete(url);
    }
  }

  /** A server has none any more. */
  forget(url: string): void {
    for (const version of this.#versions.values()) version.on.delete(url);
  }
}
