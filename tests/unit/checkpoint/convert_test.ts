import assert from "node:assert/strict";
import fc from "fast-check";
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBFloat16,
  float32ToFloat16,
} from "../../../src/checkpoint/mod.ts";

const fromBits = (...bits: number[]) => new Float32Array(Uint32Array.from(bits).buffer);
const hex = (words: Uint16Array) => Array.from(words, (word) => word.toString(16).padStart(4, "0"));

/** The bfloat16 nearest to a float32, found by comparing distances; on a tie the even one. */
function nearestBFloat16(bits: number): number {
  const low = (bits >>> 16) & 0xffff;
  const high = low + 1;
  const distanceLow = bits - low * 65536;
  const distanceHigh = high * 65536 - bits;
  if (distanceLow !== distanceHigh) return distanceLow < distanceHigh ? low : high;
  return low % 2 === 0 ? low : high;
}

Deno.test("float32 is rounded to the nearest bfloat16, on a tie to the even one", () => {
  fc.assert(fc.property(fc.nat({ max: 0x7f800000 }), fc.boolean(), (magnitude, negative) => {
    const bits = negative ? (magnitude | 0x80000000) >>> 0 : magnitude;
    assert.equal(float32ToBFloat16(fromBits(bits))[0], nearestBFloat16(bits));
  }));
  assert.deepEqual(
    hex(float32ToBFloat16(fromBits(0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff))),
    ["3f80", "3f82", "3f81", "3f80"],
  );
});

Deno.test("of many floats each is rounded as it would be alone, whatever their number and bits", () => {
  const special = fc.constantFrom(0x7f800000, 0xff800000, 0x7f800001, 0xffffffff, 0x7f7fffff, 1);
  const word = fc.oneof(fc.integer({ min: 0, max: 0xffffffff }), special);
  const sizes = fc.constantFrom(1, 7, 63, 64, 65, 200, 8191, 8192, 8193, 20_000);
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 1, maxLength: 40 }),
      sizes,
      fc.nat(3),
      (few, n, gap) => {
        const bits = Uint32Array.from(
          { length: n + gap },
          (_, i) => few[(i * 7 + (i >> 5)) % few.length]!,
        );
        const many = new Float32Array(bits.buffer, gap * 4, n);
        const target = new Uint16Array(n + gap).subarray(gap);
        const alone = new Map(few.map((one) => [one, float32ToBFloat16(fromBits(one))[0]]));
        const expected = Uint16Array.from(bits.subarray(gap), (one) => alone.get(one)!);
        assert.deepEqual(float32ToBFloat16(many, target), expected);
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("bfloat16 keeps zeros, infinities and overflow as IEEE rounding says", () => {
  const bits = fromBits(0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7f7fffff, 0x00000001);
  assert.deepEqual(hex(float32ToBFloat16(bits)), ["0000", "8000", "7f80", "ff80", "7f80", "0000"]);
});

Deno.test("a NaN stays a NaN of its sign, also one whose bits would round away", () => {
  const nans = fromBits(0x7fc00000, 0x7f800001, 0xff800001, 0x7fffffff, 0xffffffff);
  assert.deepEqual(hex(float32ToBFloat16(nans)), ["7fc0", "7fc0", "ffc0", "7fff", "ffff"]);
});

Deno.test("every bfloat16 that is no NaN survives the way to float32 and back", () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const back = float32ToBFloat16(bfloat16ToFloat32(all));
  for (let i = 0; i < 65536; i++) {
    if ((i & 0x7fff) > 0x7f80) assert.equal(back[i], i | 0x40);
    else assert.equal(back[i], i);
  }
});

Deno.test("every float16 that is no NaN survives the way to float32 and back", () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const floats = float16ToFloat32(all);
  const back = float32ToFloat16(floats);
  for (let i = 0; i < 65536; i++) {
    if ((i & 0x7fff) > 0x7c00) assert.ok(Number.isNaN(floats[i]));
    else assert.equal(back[i], i);
  }
});

Deno.test("float32 is rounded to the nearest float16, on a tie to the even one", () => {
  const values = Float32Array.of(1, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 65504, 65520, 2 ** -25, -0);
  assert.deepEqual(
    hex(float32ToFloat16(values)),
    ["3c00", "3c00", "3c02", "7bff", "7c00", "0000", "8000"],
  );
});

Deno.test("conversions write where they are told and refuse another length", () => {
  const target = new Uint16Array(2);
  assert.equal(float32ToBFloat16(Float32Array.of(1, 2), target), target);
  assert.deepEqual(hex(target), ["3f80", "4000"]);
  assert.throws(() => float32ToBFloat16(Float32Array.of(1), target), /1 elements.*array of 2/);
});
