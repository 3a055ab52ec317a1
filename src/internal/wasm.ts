/**
 * Modules of WebAssembly, put together from instructions that are written here as calls. V8 makes no
 * SIMD of loops; a loop whose instructions we write is three to thirty times as fast. Nothing is
 * compiled before it is shipped, and nothing is shipped as bytes: a module is made of the text of its
 * source at its first use, in less than a millisecond.
 *
 * Source of the codes: WebAssembly core specification 3.0, "Binary format"; vectors are
 * those of fixed width, which all engines have; relaxed ones would give other bits on other machines.
 */

/** Bytes of instructions, which leave on the stack what their name says. */
export type Code = readonly number[];

/** A function of a module. Its parameters are all `i32`; it gives nothing back. */
export interface WasmFunction {
  readonly name: string;
  /** Number of parameters: locals 0 to `params - 1`. */
  readonly params: number;
  /** Further locals of type `i32`, which follow the parameters. */
  readonly integers?: number | undefined;
  /** Further locals of type `v128`, which follow those. */
  readonly vectors?: number | undefined;
  readonly body: Code;
}

/** What a function of a module is called by. */
export type WasmCall = (...numbers: number[]) => void;

const I32 = 0x7f, V128 = 0x7b, NOTHING = 0x40;

/** Whole numbers in LEB128, seven bits a byte. */
function leb(value: number, isDone: (left: number, byte: number) => boolean): number[] {
  const bytes: number[] = [];
  for (;;) {
    const byte = value & 0x7f;
    value >>= 7;
    if (isDone(value, byte)) return [...bytes, byte];
    bytes.push(byte | 0x80);
  }
}
const unsigned = (value: number) => leb(value, (left) => left === 0);
const signed = (value: number) =>
  leb(value, (left, byte) => left === ((byte & 0x40) === 0 ? 0 : -1));
const list = (items: readonly Code[]) => [...unsigned(items.length), ...items.flat()];
const sized = (bytes: Code) => [...unsigned(bytes.length), ...bytes];
const name = (text: string) => sized([...new TextEncoder().encode(text)]);
const vector = (code: number, ...immediate: Code) => [0xfd, ...unsigned(code), ...immediate];

/** The value of a local. */
export const get = (index: number): Code => [0x20, ...unsigned(index)];
/** Puts a value into a local. */
export const set = (index: number, value: Code): Code => [...value, 0x21, ...unsigned(index)];
/** An `i32` of this value. */
export const int = (value: number): Code => [0x41, ...signed(value)];
/** Sum of two `i32`. */
export const add = (a: Code, b: Code): Code => [...a, ...b, 0x6a];
/** Difference of two `i32`. */
export const subtract = (a: Code, b: Code): Code => [...a, ...b, 0x6b];
/** Product of two `i32`. */
export const multiply = (a: Code, b: Code): Code => [...a, ...b, 0x6c];
/** Whether one `i32` is below another, without signs. */
export const isBelow = (a: Code, b: Code): Code => [...a, ...b, 0x49];
/** Does something while a condition holds, which is looked at before each round. */
export const whileTrue = (condition: Code, ...body: readonly Code[]): Code => [
  ...[0x03, NOTHING, ...condition, 0x04, NOTHING],
  ...body.flat(),
  ...[0x0c, 1, 0x0b, 0x0b],
];
/** Does something where a condition holds. */
export const when = (condition: Code, ...body: readonly Code[]): Code => [
  ...[...condition, 0x04, NOTHING],
  ...body.flat(),
  0x0b,
];
/** Instructions one after the other. */
export const all = (...parts: readonly Code[]): Code => parts.flat();

/** Vectors of 128 bits. Addresses are in bytes and need not be multiples of 16. */
export const v128 = {
  /** 16 bytes from an address. */
  load: (at: Code, offset = 0): Code => [...at, ...vector(0, 0, ...unsigned(offset))],
  /** The four bytes at an address, four times. */
  loadSplat: (at: Code, offset = 0): Code => [...at, ...vector(9, 0, ...unsigned(offset))],
  /** Writes 16 bytes to an address. */
  store: (at: Code, value: Code, offset = 0): Code => [
    ...[...at, ...value],
    ...vector(11, 0, ...unsigned(offset)),
  ],
  /** Writes the first four bytes to an address. */
  storeLane0: (at: Code, value: Code, offset = 0): Code => [
    ...[...at, ...value],
    ...vector(90, 0, ...unsigned(offset), 0),
  ],
  /** Four times the same 32 bits. */
  of: (word: number): Code => {
    const bytes = [0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff);
    return vector(12, ...bytes, ...bytes, ...bytes, ...bytes);
  },
  and: (a: Code, b: Code): Code => [...a, ...b, ...vector(78)],
  or: (a: Code, b: Code): Code => [...a, ...b, ...vector(80)],
  /** Whether any bit is set, as an `i32`. */
  any: (a: Code): Code => [...a, ...vector(83)],
  /** Bits of `a` where `mask` has ones, else of `b`. */
  select: (a: Code, b: Code, mask: Code): Code => [...a, ...b, ...mask, ...vector(82)],
  /** 16 bytes of `a` and `b` one after the other, by their places there. */
  shuffle: (a: Code, b: Code, places: readonly number[]): Code => [
    ...[...a, ...b],
    ...vector(13, ...places),
  ],
};

/** Four floats of 32 bits. */
export const f32x4 = {
  notEqual: (a: Code, b: Code): Code => [...a, ...b, ...vector(66)],
  add: (a: Code, b: Code): Code => [...a, ...b, ...vector(228)],
  multiply: (a: Code, b: Code): Code => [...a, ...b, ...vector(230)],
};

/** Four whole numbers of 32 bits. */
export const i32x4 = {
  add: (a: Code, b: Code): Code => [...a, ...b, ...vector(174)],
  /** Shifts all to the right, without signs. */
  shiftRight: (a: Code, bits: number): Code => [...a, ...int(bits), ...vector(173)],
};

/** The bytes of a module with these functions, whose memory comes from outside. */
function wasmBytes(functions: readonly WasmFunction[]): Uint8Array<ArrayBuffer> {
  const section = (id: number, content: Code) => [id, ...sized(content)];
  const types = functions.map(({ params }) => [
    ...[0x60, ...unsigned(params), ...Array<number>(params).fill(I32)],
    0,
  ]);
  const bodies = functions.map(({ integers = 0, vectors = 0, body }) =>
    sized([
      ...list([[...unsigned(integers), I32], [...unsigned(vectors), V128]]),
      ...body,
      0x0b,
    ])
  );
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, list(types)),
    // Any memory of at least no page will do.
    ...section(2, list([[...name("env"), ...name("memory"), 2, 0, 0]])),
    ...section(3, list(functions.map((_, index) => unsigned(index)))),
    ...section(7, list(functions.map((one, index) => [...name(one.name), 0, ...unsigned(index)]))),
    ...section(10, list(bodies)),
  ]);
}

/** Functions over a memory of their own. */
export interface WasmInstance {
  readonly buffer: ArrayBuffer;
  readonly calls: Readonly<Record<string, WasmCall>>;
}

/** A module, compiled at its first use. */
export class WasmModule {
  readonly #functions: readonly WasmFunction[];
  #compiled: WebAssembly.Module | undefined;

  constructor(functions: readonly WasmFunction[]) {
    this.#functions = functions;
  }

  /**
   * Its functions with a new memory of so many pages of 64 KiB, all zero; `null` where WebAssembly is
   * forbidden, does not know an instruction, or has not so much memory.
   */
  instantiate(pages: number): WasmInstance | null {
    try {
      this.#compiled ??= new WebAssembly.Module(wasmBytes(this.#functions));
      const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
      const { exports } = new WebAssembly.Instance(this.#compiled, { env: { memory } });
      return { buffer: memory.buffer as ArrayBuffer, calls: exports as Record<string, WasmCall> };
    } catch {
      return null;
    }
  }
}
