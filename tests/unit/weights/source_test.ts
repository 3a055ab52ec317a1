import assert from "node:assert/strict";
import { join } from "node:path";
import { float32ToBFloat16, writeSafetensors } from "../../../src/checkpoint/mod.ts";
import {
  type NamedWeight,
  safetensors,
  stateDict,
  tensorDict,
  weightIterator,
  type WeightSource,
} from "../../../src/weights/source/mod.ts";
import { castToBFloat16 } from "../../../src/weights/source/cast.ts";
import { checkTensors } from "../../../src/weights/sync/names.ts";
import { planBuckets } from "../../../src/weights/sync/plan.ts";
import { oneAhead, StagingMemory, StagingRing } from "../../../src/weights/transport/staging.ts";

const weights: NamedWeight[] = [
  { name: "a", data: Float32Array.of(1, 2.5, -3), shape: [3] },
  { name: "b", data: Uint16Array.of(0x3f80, 0x4000), dtype: "bfloat16", shape: [2, 1] },
  { name: "c", data: new Uint8Array([9]), shape: [] },
  { name: "d", data: Float32Array.of(7), shape: [1] },
];
const asState = () => Object.fromEntries(weights.map(({ name, ...tensor }) => [name, tensor]));
const signal = new AbortController().signal;

/** Name and bytes of every tensor, as the buckets of a plan carry them. */
async function sent(source: WeightSource, bucketBytes: number, flattened: boolean) {
  await using open = await source.open();
  const tensors = open.tensors.map((tensor, sourceIndex) => ({ ...tensor, sourceIndex }));
  const buckets = planBuckets(tensors, { bucketBytes, flattened });
  const found: Record<string, number[]> = {};
  const ring = new StagingRing(open, new StagingMemory(), buckets);
  for await (const { bucket, parts } of oneAhead(buckets, (one) => ring.read(one, signal))) {
    bucket.tensors.forEach(({ name, offset, sizeBytes }, i) => {
      const bytes = bucket.flattened
        ? parts[0]!.bytes.subarray(offset, offset + sizeBytes)
        : parts[i]!.bytes;
      found[name] = [...bytes];
    });
  }
  return found;
}

Deno.test("every source carries the same bytes, in buckets of any size, flattened and not", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await writeSafetensors(
      join(folder, "model.safetensors"),
      weights.map(({ name, data, shape, dtype }) => ({
        name,
        shape,
        data,
        dtype: dtype ?? (name === "c" ? "uint8" : "float32"),
      })),
    );
    const sources = [
      stateDict(asState()),
      stateDict(new Map(Object.entries(asState()))),
      tensorDict(asState()),
      weightIterator(() => weights),
      weightIterator(async function* () {
        yield* weights;
      }),
      safetensors(folder),
      safetensors(join(folder, "model.safetensors")),
    ];
    const expected = Object.fromEntries(
      weights.map(({ name, data }) => [
        name,
        [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)],
      ]),
    );
    for (const source of sources) {
      for (const bucketBytes of [1, 13, 1000]) {
        for (const flattened of [true, false]) {
          assert.deepEqual(await sent(source, bucketBytes, flattened), expected, source.label);
        }
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a cast rounds float32 alone, wherever its bytes lie", async () => {
  const cast = castToBFloat16(weightIterator(() => weights));
  const found = await sent(cast, 1000, false);
  const half = (data: Float32Array) => [...new Uint8Array(float32ToBFloat16(data).buffer)];
  assert.deepEqual(found.a, half(Float32Array.of(1, 2.5, -3)));
  assert.deepEqual(found.d, half(Float32Array.of(7)));
  assert.deepEqual(found.c, [9]);
  await using open = await cast.open();
  assert.deepEqual(open.tensors.map(({ dtype }) => dtype), [
    "bfloat16",
    "bfloat16",
    "uint8",
    "bfloat16",
  ]);
});

Deno.test("nested names are joined; what is neither tensor nor folder is named", () => {
  const leaf = { data: new Float32Array(1), shape: [1] };
  assert.equal(
    tensorDict({ model: { layers: { "0": { w: leaf } } } }).label,
    "tensordict of 1 tensors",
  );
  assert.throws(() => tensorDict({ model: { w: 3 as never } }), /"model\.w" are neither/);
  assert.throws(
    () => tensorDict({ "a.b": leaf, a: { b: leaf } }),
    /Two weights have the full name "a\.b"/,
  );
  assert.throws(() => stateDict({}), /holds no tensor/);
});

Deno.test("data that does not fit its shape, and types that cannot be told, are refused", () => {
  assert.throws(
    () => stateDict({ w: { data: new Float32Array(3), shape: [2, 2] } }),
    /float32 of shape \[2,2\] takes 16 bytes, its data has 12/,
  );
  assert.throws(
    () => stateDict({ w: { data: new Uint16Array(2), shape: [2] } }),
    /Uint16Array does not tell the element type/,
  );
});

Deno.test("an iterator that changes or ends early is refused when it is read", async () => {
  let calls = 0;
  const changing = weightIterator(() => calls++ === 0 ? weights : weights.slice(1));
  await assert.rejects(sent(changing, 1000, true), /gave "b" .* where "a"/);
  calls = 0;
  const short = weightIterator(() => calls++ === 0 ? weights : weights.slice(0, 2));
  await assert.rejects(sent(short, 1000, true), /ended before "c", tensor 3 of 4/);
});

Deno.test("an iterator whose names are given is called once", async () => {
  let calls = 0;
  const tensors = [{ name: "a", dtype: "float32", shape: [3] }] as const;
  const source = weightIterator(() => {
    calls++;
    return weights.slice(0, 1);
  }, { tensors });
  await sent(source, 1000, true);
  assert.equal(calls, 1);
});

Deno.test("tied weights may be there or not; without their partner they are missing", () => {
  const info = (name: string) => ({ name, dtype: "float32", shape: [2] }) as const;
  const { dtype, shape } = info("");
  const tied = new Map([["head", "embed"]]);
  const check = (source: string[], model: string[]) =>
    checkTensors(source.map(info), {
      reference: new Map(model.map((name) => [name, { dtype, shape }])),
      referenceLabel: "the model",
      kind: "model",
      tied,
    });
  assert.deepEqual(check(["embed", "head"], ["embed"]).tied, ["head"]);
  assert.equal(check(["embed"], ["embed", "head"]).send.length, 1);
  assert.throws(() => check(["head"], ["embed"]), /'head' is unknown.*\n.*'embed' not found/);
});

Deno.test("a type fits a model when it is the same or every value of it is held exactly", () => {
  const types = ["float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "int32"] as const;
  const held: Record<string, readonly string[]> = {
    float64: ["float32", "bfloat16", "float16"],
    float32: ["bfloat16", "float16"],
  };
  const check = (
    got: typeof types[number],
    model: typeof types[number],
    kind: "model" | "declared",
  ) =>
    checkTensors([{ name: "w", dtype: got, shape: [2] }], {
      reference: new Map([["w", { dtype: model, shape: [2] }]]),
      referenceLabel: "the model",
      kind,
      tied: new Map(),
    });
  for (const model of types) {
    for (const got of types) {
      const fits = got === model || held[model]?.includes(got);
      if (fits) assert.equal(check(got, model, "model").send.length, 1);
      else assert.throws(() => check(got, model, "model"), /metadata changed/);
      if (got === model) assert.equal(check(got, model, "declared").send.length, 1);
      else assert.throws(() => check(got, model, "declared"), /metadata changed/);
    }
  }
  assert.throws(() => check("float32", "bfloat16", "model"), /Set castFloat32To: "bfloat16"/);
});
