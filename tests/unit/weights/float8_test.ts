/** FP8 in blocks: every value to its nearest, scales of the same sync, and what is refused. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { float8Blocks, type OpenWeightSource, stateDict } from "../../../src/weights/source/mod.ts";
import { float8Of } from "../../../src/weights/source/float8.ts";
import { seeded } from "../../_support/seeded.ts";

/** What each of the 256 codes means. */
const meanings = Array.from({ length: 256 }, (_, code) => {
  const [exponent, mantissa] = [(code >> 3) & 15, code & 7];
  if (exponent === 15 && mantissa === 7) return NaN;
  const magnitude = exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7);
  return code & 0x80 ? -magnitude : magnitude;
});
const finite = [...meanings.keys()].filter((code) => Number.isFinite(meanings[code]));

/** By looking at all of them; of two as near, the one whose last bit is 0. */
function nearest(value: number): number {
  const sign = Object.is(Math.sign(value), -0) || value < 0 ? 0x80 : 0;
  return finite.filter((code) => (code & 0x80) === sign).reduce((best, code) => {
    const [a, b] = [code, best].map((one) => Math.abs(meanings[one]! - value)) as [number, number];
    return a < b || (a === b && code % 2 === 0) ? code : best;
  });
}

Deno.test("a float32 becomes the nearest FP8, halves to even", () => {
  for (const code of finite) assert.equal(float8Of(meanings[code]!), code);
  const magnitudes = finite.filter((code) => code < 0x80).map((code) => meanings[code]!);
  for (const [i, low] of magnitudes.slice(0, -1).entries()) {
    const middle = (low + magnitudes[i + 1]!) / 2;
    assert.equal(float8Of(middle), nearest(middle), `${middle}`);
    assert.equal(float8Of(-middle), nearest(-middle), `${-middle}`);
  }
  fc.assert(
    fc.property(fc.float({ min: -448, max: 448, noNaN: true }), (value) => {
      assert.equal(float8Of(value), nearest(value));
    }),
    { numRuns: 2000 },
  );
});

async function readAll(open: OpenWeightSource, order = [...open.tensors.keys()]) {
  const read = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const index of order) {
    const { name, dtype, shape } = open.tensors[index]!;
    const size = shape.reduce((a, b) => a * b, 1) * (dtype === "float32" ? 4 : 1);
    const target = new Uint8Array(size);
    const view = open.view(index);
    if (view === undefined) {
      await open.read(index, target, { signal: new AbortController().signal });
    } else target.set(view);
    read.set(name, target);
  }
  return read;
}

Deno.test("each block has its scale, what is cast comes back within half a step", async () => {
  const random = seeded(1);
  const [rows, columns] = [200, 300];
  // Blocks of very different sizes, and one of zeros.
  const data = Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    return row < 128 && column < 128 ? 0 : (random() - 0.5) * (column < 256 ? 1e-3 : 50);
  });
  const source = float8Blocks(stateDict({
    "model.embed_tokens.weight": { data: Float32Array.of(1, 2), shape: [1, 2] },
    "model.layers.0.self_attn.q_proj.weight": { data, shape: [rows, columns] },
    "model.layers.0.self_attn.q_proj.bias": { data: Float32Array.of(3), shape: [1] },
  }));
  await using open = await source.open();
  assert.deepEqual(
    open.tensors.map(({ name, dtype, shape }) => [name, dtype, shape]),
    [
      ["model.embed_tokens.weight", "float32", [1, 2]],
      ["model.layers.0.self_attn.q_proj.weight", "float8_e4m3fn", [rows, columns]],
      ["model.layers.0.self_attn.q_proj.weight_scale_inv", "float32", [2, 3]],
      ["model.layers.0.self_attn.q_proj.bias", "float32", [1]],
    ],
  );
  const read = await readAll(open);
  const values = read.get("model.layers.0.self_attn.q_proj.weight")!;
  const scales = new Float32Array(
    read.get("model.layers.0.self_attn.q_proj.weight_scale_inv")!.buffer,
  );
  assert.equal(scales[0], 1, "of zeros");
  for (const [i, value] of data.entries()) {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const scale = scales[Math.floor(row / 128) * 3 + Math.floor(column / 128)]!;
    const back = meanings[values[i]!]! * scale;
    const step = Math.max(Math.abs(value) / 16, scale * 2 ** -10);
    assert.ok(Math.abs(back - value) <= step * 1.0001, `${value} became ${back}`);
  }
  await using again = await source.open();
  const backwards = await readAll(again, [2, 1, 0, 3]);
  assert.deepEqual(
    backwards,
    new Map([...backwards.keys()].map((name) => [name, read.get(name)!])),
  );
});

Deno.test("NaN, other types and other choices are told by name", async () => {
  const of = (data: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>) =>
    float8Blocks(stateDict({ "a.q_proj.weight": { data, shape: [1, 2] } }));
  for (const bad of [NaN, Infinity, -Infinity]) {
    await using open = await of(Float32Array.of(1, bad)).open();
    await assert.rejects(readAll(open), {
      code: "validation",
      message: /"a.q_proj.weight" holds NaN/,
    });
  }
  await assert.rejects(of(Float64Array.of(1, 2)).open(), { code: "unsupported" });
  const chosen = float8Blocks(
    stateDict({ w: { data: Float32Array.of(1, 2), shape: [1, 2] } }),
    { select: (name) => name === "w" },
  );
  await using open = await chosen.open();
  assert.deepEqual(open.tensors.map(({ name }) => name), ["w", "w_scale_inv"]);
});
