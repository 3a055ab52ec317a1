import assert from "node:assert/strict";
import fc from "fast-check";
import { linear } from "../../../src/embedded/model/kernels.ts";
import { SimdMatrices } from "../../../src/embedded/model/simd.ts";

/** Numbers that a random generator would give, the same each time. */
function filled(length: number, seed: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin(seed + 12.9898 * i) * 2);
}

const sizes = fc.record({
  rows: fc.integer({ min: 1, max: 70 }),
  inputs: fc.integer({ min: 1, max: 12 }).map((vectors) => 4 * vectors),
  outputs: fc.integer({ min: 1, max: 33 }),
  hasBias: fc.boolean(),
  seed: fc.integer({ min: 0, max: 1000 }),
});

function product(
  { rows, inputs, outputs, hasBias, seed }: typeof sizes extends fc.Arbitrary<infer T> ? T : never,
) {
  const lengths = [outputs * inputs, outputs];
  const matrices = SimdMatrices.make(lengths, Math.max(inputs, outputs))!;
  const weight = matrices.allocate(lengths[0]!);
  const bias = matrices.allocate(lengths[1]!);
  weight.set(filled(weight.length, seed));
  bias.set(filled(bias.length, seed + 1));
  const layer = { weight, bias: hasBias ? bias : null };
  const x = filled(rows * inputs, seed + 2);
  const size = { rows, inputs, outputs };
  return { matrices, layer, x, size, takes: matrices.takes(layer, inputs) };
}

Deno.test("products by SIMD are those of the plain loop, for all sizes, with a bias and without", () => {
  fc.assert(fc.property(sizes, (one) => {
    const { matrices, layer, x, size, takes } = product(one);
    assert.deepEqual(takes, true);
    const [plain, fast] = [0, 1].map(() => new Float32Array(size.rows * size.outputs).fill(NaN));
    linear(plain!, x, layer, size);
    matrices.linear(fast!, x, layer, size);
    for (let i = 0; i < plain!.length; i++) {
      assert.ok(Math.abs(fast![i]! - plain![i]!) <= 1e-5 * size.inputs, `${fast![i]} at ${i}`);
    }
  }));
});

Deno.test("a row has the same bits alone as in any company", () => {
  fc.assert(fc.property(sizes, (one) => {
    const { matrices, layer, x, size } = product(one);
    const { rows, inputs, outputs } = size;
    const together = new Float32Array(rows * outputs);
    matrices.linear(together, x, layer, size);
    const alone = new Float32Array(outputs);
    for (let row = 0; row < rows; row++) {
      const own = x.subarray(row * inputs, (row + 1) * inputs);
      matrices.linear(alone, own, layer, { rows: 1, inputs, outputs });
      assert.deepEqual(alone, together.slice(row * outputs, (row + 1) * outputs));
    }
  }));
});

Deno.test("what SIMD cannot multiply is left to the plain loop", () => {
  const matrices = SimdMatrices.make([64], 8)!;
  const weight = matrices.allocate(64);
  assert.deepEqual(matrices.takes({ weight, bias: null }, 8), true);
  assert.deepEqual(matrices.takes({ weight, bias: null }, 6), false, "no whole vectors");
  assert.deepEqual(matrices.takes({ weight: new Float32Array(64), bias: null }, 8), false);
  assert.deepEqual(matrices.takes({ weight, bias: new Float32Array(8) }, 8), false);
  assert.deepEqual(SimdMatrices.make([2 ** 31], 8), null, "more than one memory can hold");
});
