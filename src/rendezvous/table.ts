import { ProtocolError } from "../errors.ts";
import type { StoreLimits } from "./limits.ts";
import { decodeText, encodeText } from "./wire.ts";

/** Makes the value of a key that nobody set, or declines. */
export type MissingKeyHandler = (key: string) => Uint8Array | undefined;

interface Waiter {
  readonly missing: Set<string>;
  readonly done: () => void;
}

/** The keys and values of a store and those who wait for keys. */
export class KeyTable {
  readonly #limits: StoreLimits;
  readonly #values = new Map<string, Uint8Array>();
  /** How often a key may still be read over the wire, where that is limited. */
  readonly #readsLeft = new Map<string, number>();
  readonly #waiters = new Map<string, Set<Waiter>>();
  readonly #handlers: MissingKeyHandler[] = [];
  #storedBytes = 0;

  /** Makes an empty table. */
  constructor(limits: StoreLimits) {
    this.#limits = limits;
  }

  /** Number of keys. */
  get size(): number {
    return this.#values.size;
  }

  /** Bytes of all keys and values. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  /** Number of waits that are not over. */
  get waiting(): number {
    return new Set([...this.#waiters.values()].flatMap((waiters) => [...waiters])).size;
  }

  /** Whether a key is there; asks no handler. */
  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** Asks `handler` for the value when somebody wants a key that is not there. */
  onMissing(handler: MissingKeyHandler): void {
    this.#handlers.push(handler);
  }

  /** The value, asking the handlers when it is missing; what they make is kept. */
  get(key: string): Uint8Array | undefined {
    const value = this.#values.get(key);
    if (value !== undefined) return value;
    for (const handler of this.#handlers) {
      const made = handler(key);
      if (made === undefined) continue;
      this.set(key, made);
      return made;
    }
    return undefined;
  }

  /** The value for a client; a key of which that was the last read is gone afterwards. */
  read(key: string): Uint8Array | undefined {
    const value = this.get(key);
    const left = this.#readsLeft.get(key);
    if (left === 1) this.delete(key);
    else if (left !== undefined) this.#readsLeft.set(key, left - 1);
    return value;
  }

  /**
   * Stores a value and wakes those who wait for it. Throws when a limit would be passed.
   *
   * @param reads How many clients may read it; default any number.
   */
  set(key: string, value: Uint8Array, reads?: number): void {
    const old = this.#values.get(key);
    const keyBytes = encodeText(key).length;
    const change = value.length - (old?.length ?? -keyBytes);
    this.#checkLimits({ keyBytes, valueBytes: value.length, change, isNew: old === undefined });
    this.#values.set(key, value);
    if (reads === undefined) this.#readsLeft.delete(key);
    else this.#readsLeft.set(key, reads);
    this.#storedBytes += change;
    this.#wake(key);
  }

  /** Adds to the decimal number stored under `key` (0 when there is none); returns the sum. */
  add(key: string, delta: bigint): bigint {
    const old = this.get(key);
    const sum = BigInt.asIntN(64, (old === undefined ? 0n : numberOf(key, old)) + delta);
    this.set(key, encodeText(String(sum)));
    return sum;
  }

  /** Stores `desired` when the value equals `expected` (empty: when there is none). */
  compareSet(key: string, expected: Uint8Array, desired: Uint8Array): Uint8Array {
    const current = this.get(key);
    if (current === undefined && expected.length > 0) return expected;
    if (current !== undefined && !equalBytes(current, expected)) return current;
    this.set(key, desired);
    return desired;
  }

  /** Adds bytes to the end of a value. */
  append(key: string, value: Uint8Array): void {
    const old = this.get(key);
    if (old === undefined) return this.set(key, value);
    // Refused before the copy is made.
    this.#checkValueBytes(old.length + value.length);
    const joined = new Uint8Array(old.length + value.length);
    joined.set(old);
    joined.set(value, old.length);
    this.set(key, joined);
  }

  /** Removes a key; tells whether it was there. */
  delete(key: string): boolean {
    const old = this.#values.get(key);
    if (old === undefined) return false;
    this.#storedBytes -= old.length + encodeText(key).length;
    this.#readsLeft.delete(key);
    return this.#values.delete(key);
  }

  /**
   * Calls `done` once all keys have been there, at once when they are. Returns what forgets the
   * wait. As in torch, a key that came and was deleted again counts as come.
   */
  whenAll(keys: Iterable<string>, done: () => void): () => void {
    const missing = new Set<string>();
    for (const key of keys) if (this.get(key) === undefined) missing.add(key);
    if (missing.size === 0) {
      done();
      return () => {};
    }
    const waiter: Waiter = { missing, done };
    for (const key of missing) {
      const waiters = this.#waiters.get(key) ?? new Set();
      this.#waiters.set(key, waiters.add(waiter));
    }
    return () => this.#forget(waiter);
  }

  #forget(waiter: Waiter): void {
    for (const key of waiter.missing) {
      const waiters = this.#waiters.get(key);
      waiters?.delete(waiter);
      if (waiters?.size === 0) this.#waiters.delete(key);
    }
  }

  #wake(key: string): void {
    const waiters = this.#waiters.get(key);
    if (waiters === undefined) return;
    this.#waiters.delete(key);
    for (const waiter of waiters) {
      waiter.missing.delete(key);
      if (waiter.missing.size === 0) waiter.done();
    }
  }

  #checkLimits(
    entry: { keyBytes: number; valueBytes: number; change: number; isNew: boolean },
  ): void {
    const { maxKeyBytes, maxKeys, maxStoredBytes } = this.#limits;
    if (entry.keyBytes > maxKeyBytes) {
      throw new ProtocolError(`TCPStore: key of ${entry.keyBytes} bytes, limit ${maxKeyBytes}`);
    }
    this.#checkValueBytes(entry.valueBytes);
    if (entry.isNew && this.#values.size >= maxKeys) {
      throw new ProtocolError(`TCPStore: more than ${maxKeys} keys`);
    }
    if (this.#storedBytes + entry.change > maxStoredBytes) {
      throw new ProtocolError(`TCPStore: more than ${maxStoredBytes} bytes stored`);
    }
  }

  #checkValueBytes(length: number): void {
    const { maxValueBytes } = this.#limits;
    if (length <= maxValueBytes) return;
    throw new ProtocolError(`TCPStore: value of ${length} bytes, limit ${maxValueBytes}`);
  }
}

/** Longest decimal text of a 64-bit number, with its sign. */
const MAX_DIGITS = 20;

function numberOf(key: string, value: Uint8Array): bigint {
  // A long value is never converted: that takes quadratic time.
  const text = value.length <= MAX_DIGITS ? decodeOrEmpty(value) : "";
  if (/^-?\d+$/.test(text)) return BigInt(text);
  throw new ProtocolError(`TCPStore: ADD to key "${key}", whose value is not a number`);
}

function decodeOrEmpty(bytes: Uint8Array): string {
  try {
    return decodeText(bytes);
  } catch {
    return "";
  }
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
