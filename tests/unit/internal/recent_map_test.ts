import assert from "node:assert/strict";
import fc from "fast-check";
import { RecentMap } from "../../../src/internal/recent_map.ts";

Deno.test("a recent map never gives another value than was set, and stays within its limit", () => {
  const key = fc.oneof(fc.string({ unit: "binary", maxLength: 30 }), fc.constantFrom("\ud800", ""));
  fc.assert(
    fc.property(fc.array(fc.tuple(key, fc.nat(5_000))), fc.integer({ min: 0, max: 20_000 }), (
      steps,
      limit,
    ) => {
      const map = new RecentMap<number>(limit, (bytes) => bytes);
      const all = new Map<string, number>();
      for (const [name, bytes] of steps) {
        const found = map.get(name);
        if (found !== undefined) assert.equal(found, all.get(name));
        map.set(name, bytes);
        all.set(name, bytes);
        // The entry that went over a half may be larger than the limit.
        assert.ok(map.size <= limit / 400 + 2, `${map.size} entries`);
      }
    }),
  );
});

Deno.test("what is used again and again is kept, however much else comes", () => {
  const map = new RecentMap<number>(100_000, () => 100);
  map.set("used", 1);
  for (let i = 0; i < 10_000; i++) {
    map.set(`other ${i}`, i);
    assert.equal(map.get("used"), 1);
  }
  assert.equal(map.get("other 0"), undefined);
});
