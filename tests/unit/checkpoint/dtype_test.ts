import assert from "node:assert/strict";
import { CheckpointError, ValidationError } from "../../../src/errors.ts";
import {
  allDTypes,
  elementCount,
  fromSafetensorsName,
  itemSizeBytes,
  parseDType,
  tensorSizeBytes,
  toSafetensorsName,
} from "../../../src/checkpoint/mod.ts";

Deno.test("each element type has its size and its safetensors name, both ways", () => {
  const table = allDTypes.map((dtype) =>
    `${dtype} ${itemSizeBytes(dtype)} ${toSafetensorsName(dtype)}`
  );
  assert.deepEqual(table, [
    "float64 8 F64",
    "float32 4 F32",
    "float16 2 F16",
    "bfloat16 2 BF16",
    "float8_e4m3fn 1 F8_E4M3",
    "float8_e5m2 1 F8_E5M2",
    "int64 8 I64",
    "int32 4 I32",
    "int16 2 I16",
    "int8 1 I8",
    "uint8 1 U8",
    "bool 1 BOOL",
  ]);
  for (const dtype of allDTypes) assert.equal(fromSafetensorsName(toSafetensorsName(dtype)), dtype);
});

Deno.test("torch's names are taken with and without their prefix", () => {
  assert.equal(parseDType("bfloat16"), "bfloat16");
  assert.equal(parseDType("torch.bfloat16"), "bfloat16");
});

Deno.test("an unknown name is refused with the nearest known one", () => {
  assert.throws(
    () => parseDType("bflot16"),
    (error) => error instanceof ValidationError && /did you mean "bfloat16"/.test(error.message),
  );
  assert.throws(() => parseDType("constructor"), ValidationError);
  assert.throws(() => fromSafetensorsName("U64"), CheckpointError);
});

Deno.test("sizes are products of the shape, and nonsense shapes are refused", () => {
  assert.equal(elementCount([]), 1);
  assert.equal(elementCount([3, 0, 5]), 0);
  assert.equal(tensorSizeBytes({ dtype: "float32", shape: [2, 3] }), 24);
  for (const shape of [[-1], [1.5], [NaN], [2 ** 53], [2 ** 30, 2 ** 30]]) {
    assert.throws(() => tensorSizeBytes({ dtype: "float32", shape }), ValidationError);
  }
});
