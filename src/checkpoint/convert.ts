/** Conversions between float32 and the 16-bit float types, on plain arrays. */
import { ValidationError } from "../errors.ts";
import { castBlocks } from "./bfloat16_blocks.ts";

/**
 * Rounds float32 to bfloat16, to the nearest and on a tie to the even one; a NaN stays a NaN of the
 * same sign. The result holds the bits.
 *
 * Source of the rounding: PyTorch `c10/util/BFloat16.h` (`round_to_nearest_even`), which gives the
 * same bits except that it makes every NaN 0x7FC0.
 *
 * @param source Shape `(N)`.
 * @param target Where to write; default a new array. Shape `(N)`.
 *
 * @example
 * ```ts
 * import { float32ToBFloat16 } from "@sglang-rl/sglang-rl/checkpoint";
 *
 * float32ToBFloat16(Float32Array.of(1)); // Uint16Array [0x3f80]
 * ```
 */
export function float32ToBFloat16(
  source: Float32Array,
  target: Uint16Array = new Uint16Array(source.length),
): Uint16Array {
  checkLengths(source, target);
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = castBlocks(source, target); i < bits.length; i++) {
    const word = bits[i]!;
    const isNaN = (word & 0x7fffffff) > 0x7f800000;
    // 0x0040 makes it quiet, so that dropping low bits cannot turn a NaN into an infinity.
    target[i] = isNaN ? (word >>> 16) | 0x0040 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return target;
}

/** Widens bfloat16 bits to float32, exactly. Shapes `(N)`. */
export function bfloat16ToFloat32(
  source: Uint16Array,
  target: Float32Array = new Float32Array(source.length),
): Float32Array {
  checkLengths(source, target);
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < bits.length; i++) bits[i] = source[i]! << 16;
  return target;
}

/** Rounds float32 to float16, to the nearest and on a tie to the even one. Shapes `(N)`. */
export function float32ToFloat16(
  source: Float32Array,
  target: Uint16Array = new Uint16Array(source.length),
): Uint16Array {
  checkLengths(source, target);
  new Float16Array(target.buffer, target.byteOffset, target.length).set(source);
  return target;
}

/** Widens float16 bits to float32, exactly. Shapes `(N)`. */
export function float16ToFloat32(
  source: Uint16Array,
  target: Float32Array = new Float32Array(source.length),
): Float32Array {
  checkLengths(source, target);
  target.set(new Float16Array(source.buffer, source.byteOffset, source.length));
  return target;
}

function checkLengths(source: { length: number }, target: { length: number }): void {
  if (source.length === target.length) return;
  throw new ValidationError(
    `Cannot convert ${source.length} elements into an array of ${target.length}`,
  );
}
