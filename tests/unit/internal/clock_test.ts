import assert from "node:assert/strict";
import fc from "fast-check";
import { TimerClock } from "../../../src/internal/clock.ts";

/** Timers that fire when the test says so. */
class DrivenTimers {
  time = 0;
  made = 0;
  readonly open = new Map<number, { readonly due: number; readonly callback: () => void }>();

  now = () => this.time;

  set = (callback: () => void, delayMs: number): number => {
    this.open.set(++this.made, { due: this.time + delayMs, callback });
    return this.made;
  };

  clear = (timer: number) => void this.open.delete(timer);

  advance(time: number): void {
    for (;;) {
      const [next] = [...this.open].sort(([, a], [, b]) => a.due - b.due);
      if (next === undefined || next[1].due > time) break;
      this.open.delete(next[0]);
      this.time = Math.max(this.time, next[1].due);
      next[1].callback();
    }
    this.time = time;
  }
}

const step = fc.oneof(
  fc.record({ kind: fc.constant("schedule" as const), delayMs: fc.integer({ max: 20_000 }) }),
  fc.record({ kind: fc.constant("cancel" as const), which: fc.nat() }),
  fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 0, max: 7_000 }) }),
);

Deno.test("each wait ends once, never early, long ones at most 250 ms late, and a cancelled one never", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const timers = new DrivenTimers();
      const clock = new TimerClock(timers);
      const waits: { due: number; long: boolean; ended: number[]; cancel: () => void }[] = [];
      const cancelled = new Map<number, number>();
      for (const step of steps) {
        if (step.kind === "pass") timers.advance(timers.time + step.ms);
        else if (step.kind === "schedule") {
          const ended: number[] = [];
          const cancel = clock.schedule(step.delayMs, () => ended.push(timers.time));
          const due = timers.time + Math.max(0, step.delayMs);
          waits.push({ due, long: step.delayMs >= 5_000, ended, cancel });
        } else if (waits.length > 0) {
          const which = step.which % waits.length;
          if (!cancelled.has(which)) cancelled.set(which, waits[which]!.ended.length);
          waits[which]!.cancel();
        }
      }
      timers.advance(timers.time + 30_000);
      for (const [which, { due, long, ended }] of waits.entries()) {
        const before = cancelled.get(which);
        assert.equal(ended.length, before ?? 1);
        for (const time of ended) assert.ok(time >= due && time <= due + (long ? 250 : 0));
      }
      assert.equal(timers.open.size, 0);
    }),
    { numRuns: 300 },
  );
});

Deno.test("a thousand deadlines of one moment take one timer, and none once they are cancelled", () => {
  const timers = new DrivenTimers();
  const clock = new TimerClock(timers);
  for (let round = 0; round < 3; round++) {
    const cancels = Array.from({ length: 1000 }, () => clock.schedule(60_000, () => {}));
    assert.equal(timers.open.size, 1);
    for (const cancel of cancels) cancel();
    assert.equal(timers.open.size, 0);
  }
});

Deno.test("a wait that is cancelled by one of the same moment does not end", () => {
  const timers = new DrivenTimers();
  const clock = new TimerClock(timers);
  const ended: string[] = [];
  clock.schedule(10_000, () => {
    ended.push("first");
    cancel();
    clock.schedule(10_000, () => ended.push("later"));
  });
  const cancel = clock.schedule(10_000, () => ended.push("second"));
  timers.advance(11_000);
  assert.deepEqual(ended, ["first"]);
  timers.advance(30_000);
  assert.deepEqual(ended, ["first", "later"]);
});

Deno.test("a wait without end takes no timer, and one longer than a timer can wait fires at its end", () => {
  const timers = new DrivenTimers();
  const clock = new TimerClock(timers);
  clock.schedule(Infinity, () => assert.fail("ended"));
  assert.equal(timers.open.size, 0);
  clock.schedule(2 ** 40, () => {});
  assert.equal([...timers.open.values()][0]!.due, 2 ** 31 - 1);
});
