/**
 * A writer of Python's pickle format, for what SGLang takes as pickles and nothing more: plain
 * values, names of Python objects, calls, objects with fields and references. It reads nothing.
 *
 * Protocol 3 (Python 3.0 and later), opcodes of CPython's `Lib/pickletools.py`.
 *
 * @module
 */
import { ValidationError } from "../../errors.ts";

/** A Python object that the reader imports: `global("torch", "uint8")`. */
export interface PickleGlobal {
  /** Tells the kinds apart. */
  readonly kind: "global";
  /** Module. */
  readonly module: string;
  /** Name in the module. */
  readonly name: string;
}

/** The result of calling a Python object. */
export interface PickleCall {
  /** Tells the kinds apart. */
  readonly kind: "call";
  /** What is called. */
  readonly callable: PickleGlobal;
  /** With what. */
  readonly args: readonly PickleValue[];
}

/** An instance of a Python class with the given fields, made without calling `__init__`. */
export interface PickleObject {
  /** Tells the kinds apart. */
  readonly kind: "object";
  /** Its class. */
  readonly type: PickleGlobal;
  /** Its fields. */
  readonly fields: Readonly<Record<string, PickleValue>>;
}

/** A Python tuple. */
export interface PickleTuple {
  /** Tells the kinds apart. */
  readonly kind: "tuple";
  /** Its items. */
  readonly items: readonly PickleValue[];
}

/** A Python dict with text keys. */
export interface PickleDict {
  /** Tells the kinds apart. */
  readonly kind: "dict";
  /** Its entries. */
  readonly entries: Readonly<Record<string, PickleValue>>;
}

/** A reference that the reader resolves by itself, as torch's files refer to their storages. */
export interface PicklePersistent {
  /** Tells the kinds apart. */
  readonly kind: "persistent";
  /** What the reader finds it by. */
  readonly id: PickleValue;
}

/** What can be written; an array becomes a list, a `Uint8Array` becomes `bytes`. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PickleValue[]
  | PickleGlobal
  | PickleCall
  | PickleObject
  | PickleTuple
  | PickleDict
  | PicklePersistent;

/** Names a Python object. */
export function global(module: string, name: string): PickleGlobal {
  return { kind: "global", module, name };
}

/** Calls a Python object. */
export function call(callable: PickleGlobal, ...args: readonly PickleValue[]): PickleCall {
  return { kind: "call", callable, args };
}

/** Makes an instance of a class. */
export function object(
  type: PickleGlobal,
  fields: Readonly<Record<string, PickleValue>>,
): PickleObject {
  return { kind: "object", type, fields };
}

/** Makes a tuple. */
export function tuple(...items: readonly PickleValue[]): PickleTuple {
  return { kind: "tuple", items };
}

/** Makes a dict. */
export function dict(entries: Readonly<Record<string, PickleValue>>): PickleDict {
  return { kind: "dict", entries };
}

/** Refers to what the reader finds by an id. */
export function persistent(id: PickleValue): PicklePersistent {
  return { kind: "persistent", id };
}

const op = {
  appends: 0x65,
  binBytes: 0x42,
  binGet: 0x68,
  binInt: 0x4a,
  binInt1: 0x4b,
  binInt2: 0x4d,
  binPersId: 0x51,
  binPut: 0x71,
  binUnicode: 0x58,
  build: 0x62,
  emptyDict: 0x7d,
  emptyList: 0x5d,
  emptyTuple: 0x29,
  global: 0x63,
  long1: 0x8a,
  longBinGet: 0x6a,
  longBinPut: 0x72,
  mark: 0x28,
  newFalse: 0x89,
  newObj: 0x81,
  newTrue: 0x88,
  none: 0x4e,
  proto: 0x80,
  reduce: 0x52,
  setItems: 0x75,
  shortBinBytes: 0x43,
  stop: 0x2e,
  tuple: 0x74,
} as const;

const PROTOCOL = 3;

/**
 * Writes a value as a pickle.
 *
 * @param protocol What the pickle says that it is; torch's careful reader asks for 2.
 * @throws {ValidationError} A number is not a whole one.
 */
export function pickle(value: PickleValue, protocol: 2 | 3 = PROTOCOL): Uint8Array<ArrayBuffer> {
  const writer = new PickleWriter(protocol);
  writer.write(value);
  return writer.finish();
}

/** Longest text that is put into the reader's memo: keys and type names recur, tensor names do not. */
const LONGEST_MEMO_TEXT = 16;

class PickleWriter {
  #bytes = new Uint8Array(64 * 1024);
  #length = 0;
  /** Places in the reader's memo of named objects and of short texts, so that each is written once. */
  readonly #globals = new Map<string, number>();
  readonly #texts = new Map<string, number>();
  readonly #encoder = new TextEncoder();

  constructor(protocol: number) {
    this.#byte(op.proto);
    this.#byte(protocol);
  }

  finish(): Uint8Array<ArrayBuffer> {
    this.#byte(op.stop);
    return this.#bytes.slice(0, this.#length);
  }

  write(value: PickleValue): void {
    if (value === null) return this.#byte(op.none);
    switch (typeof value) {
      case "boolean":
        return this.#byte(value ? op.newTrue : op.newFalse);
      case "number":
        return this.#number(value);
      case "bigint":
        return this.#integer(value);
      case "string":
        return this.#text(value);
    }
    if (value instanceof Uint8Array) return this.#byteString(value);
    if (isList(value)) return this.#list(value);
    switch (value.kind) {
      case "global":
        return this.#global(value);
      case "tuple":
        return this.#tuple(value.items);
      case "dict":
        return this.#dict(value.entries);
      case "persistent":
        this.write(value.id);
        return this.#byte(op.binPersId);
      case "call":
        this.#global(value.callable);
        this.#tuple(value.args);
        return this.#byte(op.reduce);
      case "object":
        this.#global(value.type);
        this.#byte(op.emptyTuple);
        this.#byte(op.newObj);
        this.#dict(value.fields);
        return this.#byte(op.build);
    }
  }

  #number(value: number): void {
    if (!Number.isSafeInteger(value)) {
      throw new ValidationError(`Only whole numbers are written, not ${value}`);
    }
    if (value !== (value | 0)) return this.#integer(BigInt(value));
    if (value >= 0 && value < 256) {
      this.#byte(op.binInt1);
      return this.#byte(value);
    }
    if (value >= 0 && value < 65536) {
      this.#byte(op.binInt2);
      this.#byte(value & 0xff);
      return this.#byte(value >> 8);
    }
    this.#byte(op.binInt);
    this.#word(value);
  }

  #integer(value: bigint): void {
    if (value === BigInt.asIntN(32, value)) return this.#number(Number(value));
    let size = 5;
    while (value !== BigInt.asIntN(8 * size, value)) size++;
    if (size > 255) throw new ValidationError("An integer of more than 255 bytes is not written");
    this.#byte(op.long1);
    this.#byte(size);
    for (let i = 0; i < size; i++) this.#byte(Number((value >> BigInt(8 * i)) & 0xffn));
  }

  #text(text: string): void {
    const isShort = text.length <= LONGEST_MEMO_TEXT;
    if (isShort && this.#recall(this.#texts, text)) return;
    this.#reserve(5 + 3 * text.length);
    const { written } = this.#encoder.encodeInto(text, this.#bytes.subarray(this.#length + 5));
    this.#byte(op.binUnicode);
    this.#word(written);
    this.#length += written;
    if (isShort) this.#remember(this.#texts, text);
  }

  #byteString(bytes: Uint8Array): void {
    if (bytes.byteLength < 256) {
      this.#byte(op.shortBinBytes);
      this.#byte(bytes.byteLength);
    } else {
      this.#byte(op.binBytes);
      this.#word(bytes.byteLength);
    }
    this.#reserve(bytes.byteLength);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.byteLength;
  }

  #list(items: readonly PickleValue[]): void {
    this.#byte(op.emptyList);
    this.#byte(op.mark);
    for (const item of items) this.write(item);
    this.#byte(op.appends);
  }

  #tuple(items: readonly PickleValue[]): void {
    if (items.length === 0) return this.#byte(op.emptyTuple);
    this.#byte(op.mark);
    for (const item of items) this.write(item);
    this.#byte(op.tuple);
  }

  #dict(entries: Readonly<Record<string, PickleValue>>): void {
    this.#byte(op.emptyDict);
    this.#byte(op.mark);
    for (const key of Object.keys(entries)) {
      this.#text(key);
      this.write(entries[key]!);
    }
    this.#byte(op.setItems);
  }

  #global({ module, name }: PickleGlobal): void {
    const line = `${module}\n${name}\n`;
    if (this.#recall(this.#globals, line)) return;
    this.#reserve(1 + 3 * line.length);
    this.#byte(op.global);
    this.#length += this.#encoder.encodeInto(line, this.#bytes.subarray(this.#length)).written;
    this.#remember(this.#globals, line);
  }

  /** Writes a reference to the memo when the thing is in it. */
  #recall(memo: Map<string, number>, key: string): boolean {
    const place = memo.get(key);
    if (place === undefined) return false;
    this.#memoized(op.binGet, op.longBinGet, place);
    return true;
  }

  #remember(memo: Map<string, number>, key: string): void {
    const place = this.#globals.size + this.#texts.size;
    memo.set(key, place);
    this.#memoized(op.binPut, op.longBinPut, place);
  }

  #memoized(short: number, long: number, place: number): void {
    this.#byte(place < 256 ? short : long);
    if (place < 256) this.#byte(place);
    else this.#word(place);
  }

  #byte(value: number): void {
    if (this.#length === this.#bytes.byteLength) this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  /** Four bytes, little-endian. */
  #word(value: number): void {
    for (let shift = 0; shift < 32; shift += 8) this.#byte((value >> shift) & 0xff);
  }

  #reserve(byteLength: number): void {
    const needed = this.#length + byteLength;
    if (needed <= this.#bytes.byteLength) return;
    const grown = new Uint8Array(Math.max(needed, 2 * this.#bytes.byteLength));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}

/** `Array.isArray` does not narrow a readonly array. */
function isList(value: PickleValue): value is readonly PickleValue[] {
  return Array.isArray(value);
}
