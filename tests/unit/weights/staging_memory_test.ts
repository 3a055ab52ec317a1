import { deepEqual, equal } from "node:assert/strict";
import { weightIterator } from "../../../src/weights/source/iterator.ts";
import { planBuckets } from "../../../src/weights/sync/plan.ts";
import { oneAhead, StagingMemory, StagingRing } from "../../../src/weights/transport/staging.ts";

const weights = Array.from({ length: 6 }, (_, i) => ({
  name: `w${i}`,
  dtype: "uint8" as const,
  shape: [10 + i],
  data: new Uint8Array(10 + i).fill(i),
}));

Deno.test("staging memory of a group is taken once and used by every sync", async () => {
  const taken: number[] = [];
  const memory = new StagingMemory((byteLength) => {
    taken.push(byteLength);
    return new Uint8Array(byteLength);
  });
  for (let sync = 0; sync < 3; sync++) {
    await using source = await weightIterator(() => weights).open();
    const buckets = planBuckets(
      source.tensors.map((tensor, sourceIndex) => ({ ...tensor, sourceIndex })),
      { bucketBytes: 25, flattened: true },
    );
    const sent: number[] = [];
    const ring = new StagingRing(source, memory, buckets);
    const { signal } = new AbortController();
    for await (const { parts } of oneAhead(buckets, (one) => ring.read(one, signal))) {
      sent.push(...parts[0]!.bytes);
    }
    deepEqual(sent, weights.flatMap(({ data }) => [...data]));
  }
  equal(taken.length, 2);
  equal(taken[0], taken[1]);
});
