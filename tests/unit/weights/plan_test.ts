import assert from "node:assert/strict";
import fc from "fast-check";
import { allDTypes, itemSizeBytes, tensorSizeBytes } from "../../../src/checkpoint/dtype.ts";
import { planBuckets } from "../../../src/weights/sync/plan.ts";

const float32 = (name: string, count: number, sourceIndex = 0) =>
  ({ name, dtype: "float32", shape: [count], sourceIndex }) as const;

Deno.test("tensors fill buckets up to the limit, in the order of the source", () => {
  const buckets = planBuckets(
    [float32("a", 2, 0), float32("b", 2, 1), float32("c", 1, 2)],
    { bucketBytes: 16, flattened: true },
  );
  assert.deepEqual(buckets.map(({ tensors }) => tensors.map(({ name }) => name)), [["a", "b"], [
    "c",
  ]]);
  assert.deepEqual(buckets.map(({ byteLength }) => byteLength), [16, 4]);
});

Deno.test("a tensor larger than the limit goes alone", () => {
  const buckets = planBuckets(
    [float32("a", 1, 0), float32("large", 100, 1), float32("b", 1, 2)],
    { bucketBytes: 8, flattened: true },
  );
  assert.deepEqual(buckets.map(({ tensors }) => tensors.map(({ name }) => name)), [
    ["a"],
    ["large"],
    ["b"],
  ]);
});

Deno.test("a bucket of empty tensors only is not flattened, because servers refuse it", () => {
  const [bucket] = planBuckets([float32("a", 0)], { bucketBytes: 8, flattened: true });
  assert.equal(bucket!.flattened, false);
});

Deno.test("bucketBytes must be a positive whole number", () => {
  for (const bucketBytes of [0, -1, 1.5, NaN]) {
    assert.throws(() => planBuckets([], { bucketBytes, flattened: true }), /bucketBytes/);
  }
});

Deno.test("any plan holds every tensor once, without gaps, aligned and within the limit", () => {
  const tensor = fc.record({
    dtype: fc.constantFrom(...allDTypes),
    shape: fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 3 }),
  });
  fc.assert(
    fc.property(
      fc.array(tensor, { maxLength: 30 }),
      fc.integer({ min: 1, max: 400 }),
      (tensors, bucketBytes) => {
        const named = tensors.map((one, i) => ({ ...one, name: `t${i}`, sourceIndex: i }));
        const buckets = planBuckets(named, { bucketBytes, flattened: true });
        const seen = buckets.flatMap((bucket) =>
          bucket.tensors.map(({ sourceIndex }) => sourceIndex)
        );
        assert.deepEqual(seen.toSorted((a, b) => a - b), named.map((_, i) => i));
        for (const bucket of buckets) {
          let end = 0;
          for (const { offset, sizeBytes, dtype, shape } of bucket.tensors) {
            assert.equal(offset, end);
            if (bucket.flattened) assert.equal(offset % itemSizeBytes(dtype), 0);
            assert.equal(sizeBytes, tensorSizeBytes({ dtype, shape }));
            end += sizeBytes;
          }
          assert.equal(bucket.byteLength, end);
          assert.ok(
            bucket.byteLength <= bucketBytes ||
              bucket.tensors.filter((t) => t.sizeBytes > 0).length === 1,
          );
        }
      },
    ),
    { numRuns: 300 },
  );
});
