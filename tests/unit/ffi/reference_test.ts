import { deepEqual, equal, notEqual, throws } from "node:assert/strict";
import fc from "fast-check";
import { ValidationError } from "../../../src/errors.ts";
import { castBits, checkLength, checksumOf, sumWords } from "../../../ffi/cuda/reference.ts";

function bitsOf(...numbers: number[]): Uint32Array {
  return new Uint32Array(new Float32Array(numbers).buffer);
}

/** The exact cast, by arithmetic instead of bits: the nearer of both neighbours, ties to even. */
function castByArithmetic(bits: number): number {
  const toFloat = (pattern: number) => new Float32Array(new Uint32Array([pattern]).buffer)[0]!;
  const below = bits >>> 16;
  if ((bits & 0xffff) === 0) return below;
  const value = toFloat(bits);
  // The neighbour above the largest number is where infinity would be: 2^128, times the sign.
  const neighbour = (pattern: number) => {
    const float = toFloat(pattern << 16);
    return Number.isFinite(float) ? float : Math.sign(float) * 2 ** 128;
  };
  const down = Math.abs(value - neighbour(below));
  const up = Math.abs(neighbour(below + 1) - value);
  if (down !== up) return down < up ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

Deno.test("the cast keeps what bfloat16 holds exactly", () => {
  deepEqual([...castBits(bitsOf(0, -0, 1, -2, 0.5, Infinity, -Infinity))], [
    0x0000,
    0x8000,
    0x3f80,
    0xc000,
    0x3f00,
    0x7f80,
    0xff80,
  ]);
});

Deno.test("the cast rounds to the nearest and ties to even", () => {
  const bits = [0x3f807fff, 0x3f808000, 0x3f808001, 0x3f818000, 0x3f817fff, 0xbf818000];
  deepEqual(
    castBits(new Uint32Array(bits)),
    new Uint16Array([
      0x3f80,
      0x3f80,
      0x3f81,
      0x3f82,
      0x3f81,
      0xbf82,
    ]),
  );
});

Deno.test("the cast turns the largest float32 into infinity and keeps denormals", () => {
  const bits = [0x7f7fffff, 0xff7fffff, 0x7f7f7fff, 0x00000001, 0x00008001, 0x807fffff];
  deepEqual(
    castBits(new Uint32Array(bits)),
    new Uint16Array([
      0x7f80,
      0xff80,
      0x7f7f,
      0x0000,
      0x0001,
      0x8080,
    ]),
  );
});

Deno.test("the cast keeps every NaN a NaN, also one whose payload is cut off", () => {
  const bits = [0x7f800001, 0xff800001, 0x7fc00000, 0x7fffffff, 0xffffffff, 0x7f80ffff];
  deepEqual(
    castBits(new Uint32Array(bits)),
    new Uint16Array([
      0x7fc0,
      0xffc0,
      0x7fc0,
      0x7fff,
      0xffff,
      0x7fc0,
    ]),
  );
});

Deno.test("the cast equals exact arithmetic on any finite number", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffffffff }), (bits) => {
      if ((bits & 0x7f800000) === 0x7f800000) return;
      equal(castBits(new Uint32Array([bits]))[0], castByArithmetic(bits) & 0xffff);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("the checksum changes when a byte changes, moves or is lost", () => {
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 70 });
  fc.assert(fc.property(bytes, fc.nat(), fc.integer({ min: 1, max: 255 }), (data, at, by) => {
    const sum = checksumOf(data);
    const changed = data.slice();
    changed[at % data.length]! ^= by;
    notEqual(checksumOf(changed), sum);
    notEqual(checksumOf(data.subarray(0, -1)), sum);
    const reversed = data.toReversed();
    if (reversed.some((byte, i) => byte !== data[i])) notEqual(checksumOf(reversed), sum);
  }));
});

Deno.test("zeros of different lengths have different checksums", () => {
  const sums = Array.from({ length: 64 }, (_, i) => checksumOf(new Uint8Array(i)));
  equal(new Set(sums).size, 64);
});

Deno.test("the checksum of a view does not depend on where the view lies", () => {
  const data = new Uint8Array(101).map((_, i) => i * 37);
  const shifted = new Uint8Array(104);
  shifted.set(data, 3);
  equal(checksumOf(shifted.subarray(3)), checksumOf(data));
});

Deno.test("sums over parts add up to the sum over the whole", () => {
  const words = new Uint32Array(1000).map((_, i) => Math.imul(i, 0x01000193));
  const whole = sumWords(words, 5);
  const head = sumWords(words.subarray(0, 333), 5);
  const tail = sumWords(words.subarray(333), 5 + 333);
  deepEqual(whole, {
    low: (head.low + tail.low) >>> 0,
    high: (head.high + tail.high) >>> 0,
  });
});

Deno.test("a buffer whose positions do not fit is refused", () => {
  checkLength(2 ** 34);
  throws(() => checkLength(2 ** 34 + 1), ValidationError);
});
