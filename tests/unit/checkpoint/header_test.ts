import assert from "node:assert/strict";
import fc from "fast-check";
import { CheckpointError } from "../../../src/errors.ts";
import { encodeHeader, parseHeader, parseHeaderLength } from "../../../src/checkpoint/header.ts";
import { allDTypes, type TensorInfo, tensorSizeBytes } from "../../../src/checkpoint/mod.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);

/** Parses a header whose file has just as many data bytes as told. */
function parse(json: unknown, dataBytes: number): ReturnType<typeof parseHeader> {
  const header = typeof json === "string" ? utf8(json) : utf8(JSON.stringify(json));
  return parseHeader(header, 8 + header.length + dataBytes);
}

const entry = (dtype: string, shape: number[], start: number, end: number) => ({
  dtype,
  shape,
  data_offsets: [start, end],
});

const tensors: fc.Arbitrary<TensorInfo[]> = fc.uniqueArray(
  fc.record({
    name: fc.string({ unit: "binary", minLength: 1 }).filter((name) => name !== "__metadata__"),
    dtype: fc.constantFrom(...allDTypes),
    shape: fc.array(fc.nat({ max: 5 }), { maxLength: 4 }),
  }),
  { selector: (tensor) => tensor.name, maxLength: 12 },
);

Deno.test("an encoded header is read back, and its data begins at a multiple of 8", () => {
  const metadata = fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 });
  fc.assert(fc.property(tensors, metadata, (infos, metadata) => {
    const bytes = encodeHeader(infos, metadata);
    const dataBytes = infos.reduce((sum, info) => sum + tensorSizeBytes(info), 0);
    const fileBytes = bytes.length + dataBytes;
    assert.equal(bytes.length % 8, 0);
    assert.equal(parseHeaderLength(bytes.subarray(0, 8), fileBytes), bytes.length - 8);
    const header = parseHeader(bytes.subarray(8), fileBytes);
    const byName = new Map(header.tensors.map((tensor) => [tensor.name, tensor]));
    let offset = bytes.length;
    for (const info of infos) {
      const byteLength = tensorSizeBytes(info);
      assert.deepEqual(byName.get(info.name), { ...info, byteOffset: offset, byteLength });
      offset += byteLength;
    }
    assert.equal(byName.size, infos.length);
    assert.deepEqual({ ...header.metadata }, { ...metadata });
  }));
});

Deno.test("mutated headers are read or refused with a CheckpointError, never anything else", () => {
  const bytes = encodeHeader([
    { name: "a", dtype: "float32", shape: [2, 2] },
    { name: "b", dtype: "bfloat16", shape: [3] },
  ], { format: "pt" }).subarray(8);
  const mutation = fc.tuple(fc.nat({ max: bytes.length - 1 }), fc.nat({ max: 255 }));
  fc.assert(
    fc.property(
      fc.array(mutation, { maxLength: 4 }),
      fc.nat({ max: 60 }),
      (mutations, dataBytes) => {
        const mutated = bytes.slice();
        for (const [at, byte] of mutations) mutated[at] = byte;
        try {
          const fileBytes = 8 + mutated.length + dataBytes;
          const { tensors } = parseHeader(mutated, fileBytes);
          const end = Math.max(...tensors.map((tensor) => tensor.byteOffset + tensor.byteLength));
          assert.equal(end, fileBytes);
        } catch (error) {
          assert.ok(error instanceof CheckpointError, String(error));
        }
      },
    ),
    { numRuns: 2_000 },
  );
});

const damaged: ReadonlyArray<[string, unknown, number, RegExp]> = [
  ["text that is no JSON", "{", 0, /not JSON/],
  ["a list", "[]", 0, /no JSON object/],
  [
    "a name that stands twice",
    `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`,
    2,
    /names "a" twice/,
  ],
  [
    "a field that stands twice",
    `{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}`,
    1,
    /names "dtype" twice/,
  ],
  ["an entry that is no object", { a: 1 }, 0, /"a" is described by no object/],
  ["an unknown dtype", { a: entry("X9", [1], 0, 1) }, 1, /"a".*Unsupported element type "X9"/],
  ["a negative size", { a: entry("U8", [-1], 0, 1) }, 1, /malformed shape/],
  ["a fractional offset", { a: entry("U8", [1], 0.5, 1) }, 1, /malformed data_offsets/],
  ["offsets that do not fit the shape", { a: entry("F32", [2], 0, 4) }, 4, /takes 8 bytes.*give 4/],
  ["offsets in the wrong order", { a: entry("U8", [1], 4, 3) }, 4, /give -1/],
  [
    "a shape whose size overflows",
    { a: entry("U8", [2 ** 40, 2 ** 40], 0, 1) },
    1,
    /too many elements/,
  ],
  [
    "overlapping tensors",
    { a: entry("U8", [4], 0, 4), b: entry("U8", [4], 2, 6) },
    6,
    /"b" overlaps/,
  ],
  [
    "a gap",
    { a: entry("U8", [1], 0, 1), b: entry("U8", [1], 3, 4) },
    4,
    /2 bytes before tensor "b"/,
  ],
  ["a file cut short", { a: entry("U8", [10], 0, 10) }, 9, /cut short/],
  ["bytes after the last tensor", { a: entry("U8", [1], 0, 1) }, 3, /2 bytes after the last/],
  ["metadata that is no text", { __metadata__: { a: 1 } }, 0, /"a" is no string/],
];

for (const [what, json, dataBytes, message] of damaged) {
  Deno.test(`a header with ${what} is refused`, () => {
    assert.throws(
      () => parse(json, dataBytes),
      (error) => error instanceof CheckpointError && message.test(error.message),
    );
  });
}

Deno.test("names that look like parts of JSON or of objects are kept", () => {
  const names = ['a":{', "}", "__proto__", "constructor", "7", "\u0000", "é"];
  const json = `{${
    names.map((name, i) => `${JSON.stringify(name)}:${JSON.stringify(entry("U8", [1], i, i + 1))}`)
      .join(",")
  }}`;
  assert.deepEqual(parse(json, names.length).tensors.map((tensor) => tensor.name), names);
});

Deno.test("a header length beyond the file or the limit is refused before memory is taken", () => {
  const field = new Uint8Array(BigUint64Array.of(2n ** 63n).buffer);
  assert.throws(() => parseHeaderLength(field, 1000), /room for 992/);
  const large = new Uint8Array(BigUint64Array.of(100_000_001n).buffer);
  assert.throws(() => parseHeaderLength(large, 2 ** 40), /limit 100000000/);
});
