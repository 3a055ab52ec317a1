/**
 * Products of matrices by the SIMD of WebAssembly. Weights lie in a memory of the module for good;
 * rows go in and out in blocks, which costs little beside a product.
 *
 * Each output is summed in four lanes, over the inputs in their order, and then across: the same
 * however many rows there are, so a request gets the same bits alone as in company. Plain SIMD without
 * fused steps gives the same bits on all machines.
 */
import {
  add,
  all,
  type Code,
  f32x4,
  get,
  int,
  isBelow,
  multiply,
  set,
  subtract,
  v128,
  type WasmCall,
  type WasmFunction,
  type WasmInstance,
  WasmModule,
  when,
  whileTrue,
} from "../../internal/wasm.ts";
import type { Linear } from "./weights.ts";

/** Floats of a vector, and its bytes. */
const LANES = 4, VECTOR = 16;
/** Bytes of a float. */
const FLOAT = 4;
/** Rows and outputs that the inner loop takes: as many sums as there are registers for. */
const ROWS = 4, OUTPUTS = 2;

/**
 * Parameters of the function: addresses of the rows, the matrix, its bias and the result, and how
 * many outputs and rows there are. Addresses move on with the outputs.
 */
const X = 0, WEIGHT = 1, BIAS = 2, Y = 3, OUTPUTS_LEFT = 4, ROW_COUNT = 5;
/** Bytes of a row that goes in, and of one that comes out. */
const X_BYTES = 6, Y_BYTES = 7;
const PARAMS = 8;
/** Its other whole numbers: where the loop over the rows is. */
const X_ROW = 8, Y_ROW = 9, ROWS_LEFT = 10, END = 11, AT = 12;
/** Its vectors: a sum for each row and output, then what was read. */
const SUMS = AT + ROWS + OUTPUTS, READ_X = SUMS + ROWS * OUTPUTS, READ_W = READ_X + 1;
const VECTORS = ROWS * OUTPUTS + 1 + OUTPUTS;

const each = (count: number, make: (index: number) => Code) =>
  all(...Array.from({ length: count }, (_, index) => make(index)));
const moved = (local: number, by: Code) => set(local, add(get(local), by));
const times = (local: number, factor: number) => multiply(get(local), int(factor));

/** Places `[1, 0, 3, 2]` are the lanes of a vector, neighbours swapped. */
const lanes = (vector: Code, places: readonly number[]) =>
  v128.shuffle(vector, vector, places.flatMap((lane) => [0, 1, 2, 3].map((b) => 4 * lane + b)));

/** Multiplies `rows` rows with `outputs` rows of the matrix, and writes what comes out. */
function tile(rows: number, outputs: number): Code {
  const [rowAt, weightAt] = [AT, AT + rows];
  const sum = (row: number, output: number) => SUMS + row * outputs + output;
  const step = (offset: number) =>
    all(
      each(outputs, (o) => set(READ_W + o, v128.load(get(weightAt + o), offset))),
      each(rows, (r) =>
        all(
          set(READ_X, v128.load(get(rowAt + r), offset)),
          each(outputs, (o) => {
            const product = f32x4.multiply(get(READ_X), get(READ_W + o));
            return set(sum(r, o), f32x4.add(get(sum(r, o)), product));
          }),
        )),
    );
  const write = (r: number, o: number) => {
    const one = sum(r, o);
    const bias = v128.loadSplat(get(BIAS), FLOAT * o);
    return all(
      set(one, f32x4.add(get(one), lanes(get(one), [1, 0, 3, 2]))),
      set(one, f32x4.add(get(one), lanes(get(one), [2, 3, 0, 1]))),
      v128.storeLane0(add(get(Y_ROW), times(Y_BYTES, r)), f32x4.add(get(one), bias), FLOAT * o),
    );
  };
  return all(
    each(rows, (r) => set(rowAt + r, add(get(X_ROW), times(X_BYTES, r)))),
    each(outputs, (o) => set(weightAt + o, add(get(WEIGHT), times(X_BYTES, o)))),
    each(rows * outputs, (index) => set(SUMS + index, v128.of(0))),
    set(END, add(get(rowAt), get(X_BYTES))),
    // Two vectors a round while there are two.
    whileTrue(
      isBelow(add(get(rowAt), int(VECTOR)), get(END)),
      step(0),
      step(VECTOR),
      each(rows + outputs, (index) => moved(AT + index, int(2 * VECTOR))),
    ),
    when(isBelow(get(rowAt), get(END)), step(0)),
    each(rows, (r) => each(outputs, (o) => write(r, o))),
  );
}

/** All rows with the next outputs: these rows of the matrix stay in the nearest cache meanwhile. */
function allRows(outputs: number): Code {
  const some = (rows: number) =>
    whileTrue(
      isBelow(int(rows - 1), get(ROWS_LEFT)),
      tile(rows, outputs),
      moved(X_ROW, times(X_BYTES, rows)),
      moved(Y_ROW, times(Y_BYTES, rows)),
      set(ROWS_LEFT, subtract(get(ROWS_LEFT), int(rows))),
    );
  return whileTrue(
    isBelow(int(outputs - 1), get(OUTPUTS_LEFT)),
    set(X_ROW, get(X)),
    set(Y_ROW, get(Y)),
    set(ROWS_LEFT, get(ROW_COUNT)),
    some(ROWS),
    some(1),
    moved(WEIGHT, times(X_BYTES, outputs)),
    moved(BIAS, int(FLOAT * outputs)),
    moved(Y, int(FLOAT * outputs)),
    set(OUTPUTS_LEFT, subtract(get(OUTPUTS_LEFT), int(outputs))),
  );
}

const linearFunction: WasmFunction = {
  name: "linear",
  params: PARAMS,
  integers: SUMS - PARAMS,
  vectors: VECTORS,
  body: all(allRows(OUTPUTS), allRows(1)),
};

const linearModule = new WasmModule([linearFunction]);

/** Bytes of a page of a memory, and most pages: an end is still a number of 32 bits. */
const PAGE = 65536, MOST_PAGES = 65535;
/** Rows that go in and out at once. */
const BLOCK_ROWS = 64;
/** Most floats that go in or out at once, where a row is not longer. */
const BLOCK_FLOATS = 1 << 20;

/** Memory for the weights of a model, and products with them. */
export class SimdMatrices {
  readonly #buffer: ArrayBuffer;
  readonly #call: WasmCall;
  /** Where the next weight begins. */
  #end: number;
  readonly #floats: Float32Array;
  readonly #blockRows: number;
  readonly #rowsAt: number;
  readonly #resultAt: number;

  private constructor({ buffer, calls }: WasmInstance, widest: number) {
    this.#buffer = buffer;
    this.#call = calls.linear!;
    this.#floats = new Float32Array(buffer);
    this.#blockRows = blockRows(widest);
    // The beginning stays zero: it is the bias of a matrix that has none.
    this.#rowsAt = roundUp(widest);
    this.#resultAt = this.#rowsAt + this.#blockRows * roundUp(widest);
    this.#end = this.#resultAt + this.#blockRows * roundUp(widest);
  }

  /**
   * Memory for weights of these lengths, in floats, whose rows, in and out, have at most `widest`
   * floats; `null` where there is no WebAssembly or not so much memory for it.
   */
  static make(lengths: readonly number[], widest: number): SimdMatrices | null {
    const floats = lengths.reduce((sum, length) => sum + roundUp(length), 0) +
      (1 + 2 * blockRows(widest)) * roundUp(widest);
    const pages = Math.ceil(floats * FLOAT / PAGE);
    if (pages > MOST_PAGES) return null;
    const instance = linearModule.instantiate(pages);
    return instance && new SimdMatrices(instance, widest);
  }

  /** Zeros that the products can read. Shape `(length)`. */
  allocate(length: number): Float32Array {
    const made = new Float32Array(this.#buffer, this.#end * FLOAT, length);
    this.#end += roundUp(length);
    return made;
  }

  /** Whether the products can be made here: of whole vectors, with weights that lie here. */
  takes({ weight, bias }: Linear, inputs: number): boolean {
    return inputs % LANES === 0 && weight.buffer === this.#buffer &&
      (bias === null || bias.buffer === this.#buffer);
  }

  /** `y[r, o] = bias[o] + sum over i of x[r, i] * w[o, i]`, for `rows` rows of `x`. */
  linear(
    y: Float32Array,
    x: Float32Array,
    { weight, bias }: Linear,
    size: { rows: number; inputs: number; outputs: number },
  ): void {
    const { rows, inputs, outputs } = size;
    for (let row = 0; row < rows; row += this.#blockRows) {
      const count = Math.min(this.#blockRows, rows - row);
      this.#floats.set(x.subarray(row * inputs, (row + count) * inputs), this.#rowsAt);
      this.#call(
        this.#rowsAt * FLOAT,
        weight.byteOffset,
        bias?.byteOffset ?? 0,
        this.#resultAt * FLOAT,
        outputs,
        count,
        inputs * FLOAT,
        outputs * FLOAT,
      );
      const end = this.#resultAt + count * outputs;
      y.set(this.#floats.subarray(this.#resultAt, end), row * outputs);
    }
  }
}

function roundUp(floats: number): number {
  return Math.ceil(floats / LANES) * LANES;
}

function blockRows(widest: number): number {
  const fitting = Math.floor(BLOCK_FLOATS / widest / ROWS) * ROWS;
  return Math.max(ROWS, Math.min(BLOCK_ROWS, fitting));
}
