import assert from "node:assert/strict";
import { systemClock } from "../../../src/internal/clock.ts";
import { FakeClock } from "../../_support/clock.ts";

Deno.test("time is real again after a fake clock, also after one within another", () => {
  const before = systemClock.now();
  {
    using outer = FakeClock.install();
    assert.equal(systemClock.now(), outer.now());
    {
      using inner = FakeClock.install();
      const cancel = systemClock.schedule(1000, () => {});
      assert.deepEqual([inner.pending, outer.pending], [1, 0]);
      cancel();
    }
    const cancel = systemClock.schedule(1000, () => {});
    assert.equal(outer.pending, 1);
    cancel();
  }
  assert.ok(systemClock.now() >= before);
  systemClock.schedule(60_000, () => {})();
});
