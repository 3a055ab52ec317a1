import assert from "node:assert/strict";
import fc from "fast-check";
import { inTurns, slice, type Steps, WorkTurns } from "../../../src/internal/work_turns.ts";

/** Turns of a loop that goes on when it is told. */
function byHand(most: number) {
  const later: (() => void)[] = [];
  const turns = new WorkTurns({ most, later: (callback) => void later.push(callback) });
  const next = async () => {
    later.shift()?.();
    // Whoever was let through does what it can before the next turn.
    for (let i = 0; i < 5; i++) await Promise.resolve();
  };
  return { turns, next, hasMore: () => later.length > 0 };
}

Deno.test("in one turn of the loop no more is let through than fits, in the order in which it came", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 60 }),
    async (works) => {
      const { turns, next, hasMore } = byHand(100);
      const done: number[] = [];
      const sums: number[] = [];
      works.forEach((work, index) => void turns.turn(work).then(() => done.push(index)));
      for (let i = 0; i < 5; i++) await Promise.resolve();
      let before = 0;
      const count = () => {
        sums.push(done.slice(before).reduce((sum, index) => sum + works[index]!, 0));
        before = done.length;
      };
      count();
      while (hasMore()) {
        await next();
        count();
      }
      assert.deepEqual(done, works.map((_, index) => index));
      // What is larger than a turn goes alone.
      assert.ok(sums.every((sum) => sum <= 100 || works.includes(sum)), sums.join());
      assert.equal(turns.largest, Math.max(...sums));
    },
  ));
});

Deno.test("long work gives others their turns after each slice", async () => {
  const { turns, next, hasMore } = byHand(8192);
  const order: string[] = [];
  const long = function* (): Steps<string> {
    for (let step = 0; step < 100; step++) {
      order.push("step");
      yield 1024;
    }
    return "made";
  };
  const making = inTurns(long(), { turns });
  await next();
  await next();
  void turns.turn(10).then(() => order.push("other"));
  while (hasMore()) await next();
  assert.equal(await making, "made");
  const at = order.indexOf("other");
  // Two slices of four steps are let through in a turn.
  assert.ok(at > 0 && at <= 3 * 8, String(at));
  assert.equal(order.length, 101);
});

Deno.test("work that is given up does no further slice", async () => {
  const { turns, next, hasMore } = byHand(8192);
  const giving = new AbortController();
  let steps = 0;
  const endless = function* (): Steps<never> {
    for (;;) {
      steps++;
      yield 4096;
    }
  };
  const making = inTurns(endless(), { turns, signal: giving.signal });
  making.catch(() => {});
  for (let i = 0; i < 5; i++) await next();
  giving.abort(new Error("left"));
  const before = steps;
  while (hasMore()) await next();
  await assert.rejects(making, /left/);
  assert.ok(steps <= before + 1);
});

Deno.test("a slice ends with the step that fills it", () => {
  const steps = (function* (): Steps<number> {
    for (let step = 0; step < 5; step++) yield 40;
    return 7;
  })();
  assert.deepEqual(slice(steps, 100), { done: false, value: 120 });
  assert.deepEqual(slice(steps, 100), { done: true, value: 7 });
});
