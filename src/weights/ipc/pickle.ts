/**
 * A writer of Python's pickle format, for what SGLang takes as pickles and nothing more: plain
 * values, names of Python objects, calls and objects with fields. It reads nothing.
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
  | PickleDict;

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

const op = {
  appends: 0x65,
  binBytes: 0x42,
  binGet: 0x68,
  binInt: 0x4a,
  binInt1: 0x4b,
  binInt2: 0x4d,
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

/** Writes a value as a pickle. @throws {ValidationError} a number is not a whole one */
export function pickle(value: PickleValue): Uint8Array<ArrayBuffer> {
  const writer = new PickleWriter();
  writer.write(value);
  return writer.finish();
}

class PickleWriter {
  #bytes = new Uint8Array(1024);
  #length = 0;
  /** Place of each named object in the reader's memo, so that it is named once. */
  readonly #memo = new Map<string, number>();

  constructor() {
    this.#put(op.proto, PROTOCOL);
  }

  finish(): Uint8Array<ArrayBuffer> {
    this.#put(op.stop);
    return this.#bytes.slice(0, this.#length);
  }

  write(value: PickleValue): void {
    if (value === null) return this.#put(op.none);
    switch (typeof value) {
      case "boolean":
        return this.#put(value ? op.newTrue : op.newFalse);
      case "number":
        return this.#integer(toInteger(value));
      case "bigint":
        return this.#integer(value);
      case "string":
        return this.#sized(op.binUnicode, new TextEncoder().encode(value));
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
      case "call":
        this.#global(value.callable);
        this.#tuple(value.args);
        return this.#put(op.reduce);
      case "object":
        this.#global(value.type);
        this.#put(op.emptyTuple, op.newObj);
        this.#dict(value.fields);
        return this.#put(op.build);
    }
  }

  #integer(value: bigint): void {
    if (value >= 0n && value < 256n) return this.#put(op.binInt1, Number(value));
    if (value >= 0n && value < 65536n) {
      return this.#put(op.binInt2, ...littleEndian(value, 2));
    }
    if (value === BigInt.asIntN(32, value)) {
      return this.#put(op.binInt, ...littleEndian(value, 4));
    }
    let size = 5;
    while (value !== BigInt.asIntN(8 * size, value)) size++;
    if (size > 255) throw new ValidationError("An integer of more than 255 bytes is not written");
    this.#put(op.long1, size, ...littleEndian(value, size));
  }

  #byteString(bytes: Uint8Array): void {
    if (bytes.byteLength >= 256) return this.#sized(op.binBytes, bytes);
    this.#put(op.shortBinBytes, bytes.byteLength);
    this.#append(bytes);
  }

  #list(items: readonly PickleValue[]): void {
    this.#put(op.emptyList, op.mark);
    for (const item of items) this.write(item);
    this.#put(op.appends);
  }

  #tuple(items: readonly PickleValue[]): void {
    if (items.length === 0) return this.#put(op.emptyTuple);
    this.#put(op.mark);
    for (const item of items) this.write(item);
    this.#put(op.tuple);
  }

  #dict(entries: Readonly<Record<string, PickleValue>>): void {
    this.#put(op.emptyDict, op.mark);
    for (const [key, value] of Object.entries(entries)) {
      this.write(key);
      this.write(value);
    }
    this.#put(op.setItems);
  }

  #global({ module, name }: PickleGlobal): void {
    const text = `${module}\n${name}\n`;
    const known = this.#memo.get(text);
    if (known !== undefined) return this.#memoized(op.binGet, op.longBinGet, known);
    this.#put(op.global);
    this.#append(new TextEncoder().encode(text));
    this.#memoized(op.binPut, op.longBinPut, this.#memo.size);
    this.#memo.set(text, this.#memo.size);
  }

  #memoized(short: number, long: number, place: number): void {
    if (place < 256) this.#put(short, place);
    else this.#put(long, ...littleEndian(BigInt(place), 4));
  }

  #sized(opcode: number, bytes: Uint8Array): void {
    this.#put(opcode, ...littleEndian(BigInt(bytes.byteLength), 4));
    this.#append(bytes);
  }

  #put(...bytes: number[]): void {
    this.#append(bytes);
  }

  #append(bytes: ArrayLike<number>): void {
    const needed = this.#length + bytes.length;
    if (needed > this.#bytes.byteLength) {
      const grown = new Uint8Array(Math.max(needed, 2 * this.#bytes.byteLength));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = needed;
  }
}

/** `Array.isArray` does not narrow a readonly array. */
function isList(value: PickleValue): value is readonly PickleValue[] {
  return Array.isArray(value);
}

function toInteger(value: number): bigint {
  if (Number.isSafeInteger(value)) return BigInt(value);
  throw new ValidationError(`Only whole numbers are written, not ${value}`);
}

function littleEndian(value: bigint, size: number): number[] {
  return Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}
