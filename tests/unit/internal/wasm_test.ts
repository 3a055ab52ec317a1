import assert from "node:assert/strict";
import fc from "fast-check";
import {
  add,
  get,
  int,
  isBelow,
  multiply,
  set,
  subtract,
  v128,
  WasmModule,
  when,
  whileTrue,
} from "../../../src/internal/wasm.ts";

/** Writes the low 32 bits of a number into the memory's beginning. */
const writeFirst = (local: number, vector: number, places: number) => [
  // Through the memory, as there are no stores of plain numbers: `local` counts an address up.
  ...set(vector, v128.loadSplat(get(local))),
  ...v128.storeLane0(int(0), get(vector), places),
];

Deno.test("whole numbers of all sizes are written as WebAssembly reads them", () => {
  fc.assert(fc.property(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), (number) => {
    // Address 4 * (number - number + 1), so a number that is read wrongly misses it.
    const at = multiply(add(subtract(int(number), get(0)), int(1)), int(4));
    const module = new WasmModule([{
      name: "f",
      params: 1,
      integers: 1,
      vectors: 1,
      body: [...set(1, at), ...writeFirst(1, 2, 0)],
    }]);
    const { buffer, calls } = module.instantiate(1)!;
    const words = new Int32Array(buffer);
    words[1] = 77;
    calls.f!(number);
    assert.equal(words[0], 77);
  }));
});

Deno.test("a loop runs as often as its condition holds, also not at all, and a branch once", () => {
  const double = (value: number) => multiply(get(value), int(2));
  const module = new WasmModule([{
    name: "loop",
    params: 2,
    integers: 1,
    vectors: 1,
    body: [
      ...whileTrue(isBelow(get(2), get(0)), set(2, add(get(2), int(1)))),
      ...when(isBelow(get(1), get(2)), set(2, double(2))),
      // Each word holds its own address.
      ...set(2, multiply(get(2), int(4))),
      ...writeFirst(2, 3, 0),
    ],
  }]);
  const { buffer, calls } = module.instantiate(1)!;
  const words = new Int32Array(buffer);
  for (let i = 0; i < words.length; i++) words[i] = i;
  for (const [rounds, limit, wanted] of [[5, 9, 5], [5, 4, 10], [0, 0, 0], [1000, 0, 2000]]) {
    calls.loop!(rounds!, limit!);
    assert.equal(words[0], wanted);
    words[0] = 0;
  }
});

Deno.test("a module that is no module, or memory that there is not, gives nothing", () => {
  const wrong = new WasmModule([{ name: "f", params: 0, body: [0xff] }]);
  assert.equal(wrong.instantiate(1), null);
  const right = new WasmModule([{ name: "f", params: 0, body: [] }]);
  assert.equal(right.instantiate(65537), null);
  assert.notEqual(right.instantiate(0), null);
});
