/**
 * The kernels in TypeScript: what each must compute, for tests and for machines without a GPU.
 *
 * @module
 */
import type { WordRange } from "../../src/collective/group.ts";
import { ValidationError } from "../../src/errors.ts";

/** Largest buffer that {@linkcode checksumOf} tells apart: word positions have 32 bits. */
export const CHECKSUM_LIMIT_BYTES = 2 ** 34;

/**
 * Bits of float32 numbers to bits of bfloat16: to the nearest, ties to even; NaN stays NaN with its
 * sign and the upper bits of its payload, made quiet.
 */
export function castBits(float32: Uint32Array): Uint16Array<ArrayBuffer> {
  const result = new Uint16Array(float32.length);
  for (let i = 0; i < float32.length; i++) {
    const bits = float32[i]!;
    const upper = bits >>> 16;
    const isNaN = (bits & 0x7fffffff) > 0x7f800000;
    result[i] = isNaN ? upper | 0x40 : (bits + 0x7fff + (upper & 1)) >>> 16;
  }
  return result;
}

/** The finalizer of MurmurHash3: every bit of the word reaches every bit of the result. */
function mix(word: number): number {
  word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
  return word ^ (word >>> 16);
}

/** The two sums over 32-bit words, the first of which stands at `first`. */
export function sumWords(
  words: Uint32Array,
  first: number,
): { readonly low: number; readonly high: number } {
  let low = 0;
  let high = 0;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const position = first + i;
    low = (low + mix(word ^ Math.imul(position, 0x9e3779b1))) | 0;
    const scrambled = Math.imul(word + 0x27d4eb2f, 0xc2b2ae3d);
    high = (high + mix(scrambled ^ Math.imul(position, 0x165667b1))) | 0;
  }
  return { low: low >>> 0, high: high >>> 0 };
}

/** Sums and length as one 64-bit number. */
export function foldChecksum(
  sums: { readonly low: number; readonly high: number },
  byteLength: number,
): bigint {
  const length = mix(byteLength | 0) ^ mix(Math.floor(byteLength / 2 ** 32) + 1);
  return (BigInt(sums.high) << 32n) | BigInt((sums.low ^ length) >>> 0);
}

/**
 * A 64-bit checksum of a buffer that changes when bytes change, move or are lost. The last word is
 * filled with zeros; the length is mixed in. Not for use against an adversary.
 */
export function checksumOf(bytes: Uint8Array): bigint {
  checkLength(bytes.byteLength);
  const whole = bytes.byteLength - (bytes.byteLength % 4);
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const body = sumWords(new Uint32Array(aligned.buffer, aligned.byteOffset, whole / 4), 0);
  if (whole === bytes.byteLength) return foldChecksum(body, bytes.byteLength);
  const tail = sumWords(padTail(bytes.subarray(whole)), whole / 4);
  const sums = { low: (body.low + tail.low) >>> 0, high: (body.high + tail.high) >>> 0 };
  return foldChecksum(sums, bytes.byteLength);
}

/** Up to three last bytes as one word. */
export function padTail(rest: Uint8Array): Uint32Array<ArrayBuffer> {
  const word = new Uint32Array(1);
  new Uint8Array(word.buffer).set(rest);
  return word;
}

/** Refuses a buffer whose word positions do not fit. */
export function checkLength(byteLength: number): void {
  if (byteLength <= CHECKSUM_LIMIT_BYTES) return;
  throw new ValidationError(
    `A checksum covers at most ${CHECKSUM_LIMIT_BYTES} bytes, not ${byteLength}; take it in parts`,
  );
}

/** Index of the first 32-bit word for which `((word & mask) + add) & test` is not 0, if any. */
export function findWordIn(
  bytes: Uint8Array,
  pattern: Pick<WordRange, "mask" | "add" | "test" | "step">,
): { readonly index: number; readonly word: number } | undefined {
  const { mask, add, test, step } = pattern;
  const padded = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  padded.set(bytes);
  const words = new Uint32Array(padded.buffer);
  for (let index = step - 1; index < words.length; index += step) {
    const word = words[index]!;
    if ((((word & mask) + add) & test) !== 0) return { index, word };
  }
  return undefined;
}
