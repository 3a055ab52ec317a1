/** Bytes that an entry takes beside its key and its value: two objects and their places in a map. */
const ENTRY_BYTES = 400;

/**
 * Remembers values by text, those that were used last, within a limit of memory. The oldest are
 * forgotten by halves, so that a use costs the same however much is kept.
 */
export class RecentMap<Value> {
  readonly #mostBytes: number;
  readonly #bytesOf: (value: Value) => number;
  /** Used since the last half was forgotten. */
  #young = new Map<string, Value>();
  #old = new Map<string, Value>();
  #youngBytes = 0;

  /** Keeps about `mostBytes`, where a value takes `bytesOf` it. */
  constructor(mostBytes: number, bytesOf: (value: Value) => number) {
    this.#mostBytes = mostBytes;
    this.#bytesOf = bytesOf;
  }

  /** Entries that are kept. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** The value of a key, which counts as used now. */
  get(key: string): Value | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) {
      this.#old.delete(key);
      this.#put(key, old);
    }
    return old;
  }

  /** Remembers a value that must not be `undefined`. */
  set(key: string, value: Value): void {
    this.#old.delete(key);
    this.#put(ownCopyOf(key), value);
  }

  /** Forgets a value. */
  delete(key: string): void {
    const young = this.#young.get(key);
    if (young !== undefined) this.#youngBytes -= this.#cost(key, young);
    this.#young.delete(key);
    this.#old.delete(key);
  }

  #put(key: string, value: Value): void {
    const before = this.#young.get(key);
    if (before !== undefined) this.#youngBytes -= this.#cost(key, before);
    this.#young.set(key, value);
    this.#youngBytes += this.#cost(key, value);
    if (this.#youngBytes <= this.#mostBytes / 2) return;
    this.#old = this.#young;
    this.#young = new Map();
    this.#youngBytes = 0;
  }

  #cost(key: string, value: Value): number {
    return ENTRY_BYTES + 2 * key.length + this.#bytesOf(value);
  }
}

/** The same text in memory of its own: V8 keeps the whole of a text alive by a slice of it. */
function ownCopyOf(text: string): string {
  return JSON.parse(JSON.stringify(text)) as string;
}
