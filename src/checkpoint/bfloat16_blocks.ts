/** Rounding to bfloat16 sixteen words at a time, by the SIMD of WebAssembly. */
import {
  add,
  all,
  type Code,
  f32x4,
  get,
  i32x4,
  int,
  isBelow,
  set,
  v128,
  type WasmCall,
  type WasmFunction,
  WasmModule,
  when,
  whileTrue,
} from "../internal/wasm.ts";

/** Parameters of the function: where floats come from, where halves go, and the floats' end. */
const FROM = 0, TO = 1, END = 2;
/** Its vectors: four of floats. */
const FLOATS = [3, 4, 5, 6] as const;
/** Vectors of what is added: read before the loop, else each round would put them together anew. */
const BIAS = 7, ONE = 8;
/** Words that one round of the loop takes. */
const LANES = 4 * FLOATS.length;
/**
 * Floats of a block: it stays in the nearest cache between the way in and the way out, and costs more
 * than the three calls it takes.
 */
const BLOCK = 4096;
/** Where the words that are added lie, four of each, behind the block. */
const BIASES = 4 * BLOCK, ONES = BIASES + 16;

/** To the nearest, on a tie to the even one; the upper half of each lane is the result. */
const rounded = (x: number): Code =>
  i32x4.add(
    i32x4.add(get(x), get(BIAS)),
    v128.and(i32x4.shiftRight(get(x), 16), get(ONE)),
  );
const isNaN = (x: number): Code => f32x4.notEqual(get(x), get(x));
/** 0x40 makes it quiet, so that dropping low bits cannot turn a NaN into an infinity. */
const withNaNs = (x: number): Code =>
  v128.select(v128.or(get(x), v128.of(0x40_0000)), rounded(x), isNaN(x));

/** Upper halves of the lanes of two vectors. */
const upperHalves = (a: Code, b: Code): Code =>
  v128.shuffle(a, b, Array.from({ length: 8 }, (_, i) => [4 * i + 2, 4 * i + 3]).flat());
const store = (round: (x: number) => Code): Code =>
  all(
    v128.store(get(TO), upperHalves(round(FLOATS[0]), round(FLOATS[1]))),
    v128.store(get(TO), upperHalves(round(FLOATS[2]), round(FLOATS[3])), 16),
  );

const castFunction: WasmFunction = {
  name: "cast",
  params: 3,
  vectors: FLOATS.length + 2,
  body: all(
    set(BIAS, v128.load(int(BIASES))),
    set(ONE, v128.load(int(ONES))),
    whileTrue(
      isBelow(get(FROM), get(END)),
      ...FLOATS.map((x, index) => set(x, v128.load(get(FROM), 16 * index))),
      store(rounded),
      // Rare, so it costs a look.
      when(v128.any(FLOATS.map(isNaN).reduce(v128.or)), store(withNaNs)),
      set(FROM, add(get(FROM), int(4 * LANES))),
      set(TO, add(get(TO), int(2 * LANES))),
    ),
  ),
};

interface Caster {
  readonly cast: WasmCall;
  readonly floats: Float32Array;
  readonly halves: Uint16Array;
}

/** Made at the first use; `null` where WebAssembly is forbidden. */
let made: Caster | null | undefined;

function caster(): Caster | null {
  if (made !== undefined) return made;
  const instance = new WasmModule([castFunction]).instantiate(1);
  if (instance === null) return made = null;
  new Int32Array(instance.buffer, BIASES, 4).fill(0x7fff);
  new Int32Array(instance.buffer, ONES, 4).fill(1);
  return made = {
    cast: instance.calls.cast!,
    floats: new Float32Array(instance.buffer, 0, BLOCK),
    // In place: what is written lies always before what is still to be read.
    halves: new Uint16Array(instance.buffer, 0, BLOCK),
  };
}

/** Rounds as many floats from the beginning as go in whole rounds; gives how many. Shapes `(N)`. */
export function castBlocks(source: Float32Array, target: Uint16Array): number {
  const whole = source.length - source.length % LANES;
  // Calls and copies cost more than so few words.
  if (whole < 4 * LANES) return 0;
  const wasm = caster();
  if (wasm === null) return 0;
  const { cast, floats, halves } = wasm;
  for (let start = 0; start < whole; start += BLOCK) {
    const count = Math.min(BLOCK, whole - start);
    floats.set(source.subarray(start, start + count));
    cast(0, 0, count * 4);
    target.set(count === BLOCK ? halves : halves.subarray(0, count), start);
  }
  return whole;
}
