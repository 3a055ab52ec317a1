/**
 * Rounding to bfloat16 eight words at a time, by the SIMD of WebAssembly: V8 makes no SIMD of loops,
 * and a loop is a third as fast. This is the module, as its text:
 *
 * ```wat
 * (module
 *   (memory (export "memory") 4)
 *   (func (export "cast") (param $from i32) (param $to i32) (param $end i32)
 *     (local $x v128) (local $y v128)
 *     (loop $more
 *       (local.set $x (v128.load (local.get $from)))
 *       (local.set $y (v128.load offset=16 (local.get $from)))
 *       (v128.store (local.get $to) (i16x8.narrow_i32x4_u (round $x) (round $y)))
 *       (local.set $from (i32.add (local.get $from) (i32.const 32)))
 *       (local.set $to (i32.add (local.get $to) (i32.const 16)))
 *       (br_if $more (i32.lt_u (local.get $from) (local.get $end))))))
 * ;; (round $x) stands for
 * (v128.bitselect
 *   (v128.or (i32x4.shr_u $x 16) (splat 0x40))
 *   (i32x4.shr_u (i32x4.add (i32x4.add $x (splat 0x7fff))
 *     (v128.and (i32x4.shr_u $x 16) (splat 1))) 16)
 *   (f32x4.ne $x $x))
 * ```
 */
const MODULE =
  "AGFzbQEAAAABBwFgA39/fwADAgEABQMBAAQHEQIGbWVtb3J5AgAEY2FzdAAACvIBAe8BAQJ7A0AgAP0ABAAh" +
  "AyAA/QAEECEEIAEgA0EQ/a0B/QxAAAAAQAAAAEAAAABAAAAA/VAgA/0M/38AAP9/AAD/fwAA/38AAP2uASADQRD9rQH9" +
  "DAEAAAABAAAAAQAAAAEAAAD9Tv2uAUEQ/a0BIAMgA/1C/VIgBEEQ/a0B/QxAAAAAQAAAAEAAAABAAAAA/VAgBP0M/38A" +
  "AP9/AAD/fwAA/38AAP2uASAEQRD9rQH9DAEAAAABAAAAAQAAAAEAAAD9Tv2uAUEQ/a0BIAQgBP1C/VL9hgH9CwQAIABB" +
  "IGohACABQRBqIQEgACACSQ0ACws=";

/** Floats of a block: it stays in the nearest cache between the way in and the way out. */
const BLOCK = 8192;
/** Words that one round of the loop takes. */
const LANES = 8;

interface Caster {
  readonly cast: (from: number, to: number, end: number) => void;
  readonly floats: Float32Array;
  readonly halves: Uint16Array;
}

/** Made at the first use; `null` where WebAssembly is forbidden. */
let made: Caster | null | undefined;

function caster(): Caster | null {
  if (made !== undefined) return made;
  try {
    const bytes = Uint8Array.from(atob(MODULE), (one) => one.charCodeAt(0));
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
    const { buffer } = exports.memory as WebAssembly.Memory;
    made = {
      cast: exports.cast as Caster["cast"],
      floats: new Float32Array(buffer, 0, BLOCK),
      // In place: what is written lies always before what is still to be read.
      halves: new Uint16Array(buffer, 0, BLOCK),
    };
  } catch {
    made = null;
  }
  return made;
}

/** Rounds as many floats from the beginning as go in whole rounds; gives how many. Shapes `(N)`. */
export function castBlocks(source: Float32Array, target: Uint16Array): number {
  const whole = source.length - source.length % LANES;
  // Calls and copies cost more than so few words.
  if (whole < 8 * LANES) return 0;
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
