import { ProtocolError } from "../errors.ts";
import { ByteQueue } from "../internal/byte_queue.ts";
import type { StoreLimits } from "./limits.ts";
import { decodeText, Op, VALIDATE_MAGIC } from "./wire.ts";

/** One request of a client, decoded. */
export type StoreRequest =
  | { readonly op: "validate" | "getNumKeys" | "cancelWait" }
  | { readonly op: "ping"; readonly nonce: Uint8Array }
  | { readonly op: "set" | "append"; readonly key: string; readonly value: Uint8Array }
  | {
    readonly op: "compareSet";
    readonly key: string;
    readonly expected: Uint8Array;
    readonly desired: Uint8Array;
  }
  | { readonly op: "get" | "deleteKey"; readonly key: string }
  | { readonly op: "add"; readonly key: string; readonly delta: bigint }
  | { readonly op: "check" | "wait" | "multiGet"; readonly keys: readonly string[] }
  | { readonly op: "multiSet"; readonly entries: ReadonlyArray<readonly [string, Uint8Array]> };

/** Yields how many bytes it needs next and is resumed with exactly them. */
type Reading<T> = Generator<number, T, Uint8Array>;

/**
 * Cuts a client's byte stream into requests.
 *
 * @throws {ProtocolError} At the first wrong byte.
 */
export class RequestParser {
  readonly #limits: StoreLimits;
  readonly #queue = new ByteQueue();
  #reader: FieldReader;
  #reading: Reading<StoreRequest>;
  #needed: number;

  /** Makes a parser that refuses what is beyond `limits`. */
  constructor(limits: StoreLimits) {
    this.#limits = limits;
    this.#reader = new FieldReader(limits);
    this.#reading = readRequest(this.#reader);
    this.#needed = this.#start();
  }

  /** Bytes held for a request that is not complete yet. */
  get bufferedBytes(): number {
    return this.#queue.byteLength + this.#reader.takenBytes;
  }

  /** Adds what arrived. */
  push(chunk: Uint8Array): void {
    this.#queue.push(chunk);
  }

  /** The next whole request, or `undefined` until more has arrived. */
  next(): StoreRequest | undefined {
    for (;;) {
      const bytes = this.#queue.take(this.#needed);
      if (bytes === undefined) return undefined;
      const step = this.#reading.next(bytes);
      if (step.done) {
        this.#needed = this.#restart();
        return step.value;
      }
      this.#needed = step.value;
    }
  }

  #restart(): number {
    this.#reader = new FieldReader(this.#limits);
    this.#reading = readRequest(this.#reader);
    return this.#start();
  }

  #start(): number {
    const first = this.#reading.next(nothing);
    return first.done ? 0 : first.value;
  }
}

const nothing = new Uint8Array(0);

function* readRequest(reader: FieldReader): Reading<StoreRequest> {
  const op = yield* reader.u8();
  switch (op) {
    case Op.validate: {
      const magic = yield* reader.u32();
      if (magic === VALIDATE_MAGIC) return { op: "validate" };
      throw new ProtocolError(`TCPStore: wrong magic number 0x${magic.toString(16)} in VALIDATE`);
    }
    case Op.ping:
      return { op: "ping", nonce: yield* reader.raw(4) };
    case Op.set:
      return { op: "set", key: yield* reader.key(), value: yield* reader.value() };
    case Op.append:
      return { op: "append", key: yield* reader.key(), value: yield* reader.value() };
    case Op.compareSet:
      return {
        op: "compareSet",
        key: yield* reader.key(),
        expected: yield* reader.value(),
        desired: yield* reader.value(),
      };
    case Op.get:
      return { op: "get", key: yield* reader.key() };
    case Op.deleteKey:
      return { op: "deleteKey", key: yield* reader.key() };
    case Op.add:
      return { op: "add", key: yield* reader.key(), delta: yield* reader.i64() };
    case Op.check:
      return { op: "check", keys: yield* reader.keys() };
    case Op.wait:
      return { op: "wait", keys: yield* reader.keys() };
    case Op.multiGet:
      return { op: "multiGet", keys: yield* reader.keys() };
    case Op.multiSet:
      return { op: "multiSet", entries: yield* reader.entries() };
    case Op.getNumKeys:
      return { op: "getNumKeys" };
    case Op.cancelWait:
      return { op: "cancelWait" };
    default:
      throw new ProtocolError(`TCPStore: unknown or unsupported operation 0x${op.toString(16)}`);
  }
}

/** Reads the fields of one request and counts its bytes. */
class FieldReader {
  readonly #limits: StoreLimits;
  /** Bytes of this request that were read so far. */
  takenBytes = 0;

  constructor(limits: StoreLimits) {
    this.#limits = limits;
  }

  *raw(length: number): Reading<Uint8Array> {
    if (this.takenBytes + length > this.#limits.maxMessageBytes) {
      throw new ProtocolError(
        `TCPStore: request is longer than ${this.#limits.maxMessageBytes} bytes`,
      );
    }
    const bytes = yield length;
    this.takenBytes += length;
    return bytes;
  }

  *u8(): Reading<number> {
    return (yield* this.raw(1))[0]!;
  }

  *u32(): Reading<number> {
    return viewOf(yield* this.raw(4)).getUint32(0, true);
  }

  *i64(): Reading<bigint> {
    return viewOf(yield* this.raw(8)).getBigInt64(0, true);
  }

  *#length(what: string, limit: number): Reading<number> {
    const length = viewOf(yield* this.raw(8)).getBigUint64(0, true);
    if (length <= BigInt(limit)) return Number(length);
    throw new ProtocolError(`TCPStore: ${what} of ${length} where at most ${limit} is allowed`);
  }

  *key(): Reading<string> {
    const length = yield* this.#length("key length", this.#limits.maxKeyBytes);
    const bytes = yield* this.raw(length);
    try {
      return decodeText(bytes);
    } catch (error) {
      throw new ProtocolError("TCPStore: key is not UTF-8", { cause: error });
    }
  }

  *value(): Reading<Uint8Array> {
    return yield* this.raw(yield* this.#length("value length", this.#limits.maxValueBytes));
  }

  *keys(): Reading<string[]> {
    const count = yield* this.#length("number of keys", this.#limits.maxKeys);
    const keys: string[] = [];
    for (let i = 0; i < count; i++) keys.push(yield* this.key());
    return keys;
  }

  *entries(): Reading<Array<readonly [string, Uint8Array]>> {
    const count = yield* this.#length("number of keys", this.#limits.maxKeys);
    const entries: Array<readonly [string, Uint8Array]> = [];
    for (let i = 0; i < count; i++) entries.push([yield* this.key(), yield* this.value()]);
    return entries;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
