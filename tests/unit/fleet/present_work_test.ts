/** Waits of a supervisor that something may end. */
import assert from "node:assert/strict";
import { PresentWork } from "../../../src/fleet/present_work.ts";
import { FakeClock } from "../../_support/clock.ts";

Deno.test("a pause ends by its time, or when something happens", async () => {
  const clock = new FakeClock();
  const work = new PresentWork();
  const whole = work.pause(1000, clock);
  await clock.advance(1000);
  await whole;
  const cut = work.pause(1000, clock);
  work.wake();
  await cut;
  assert.equal(clock.now(), 1000);
});

Deno.test("what happens while nobody waits ends no later pause", async () => {
  const clock = new FakeClock();
  const work = new PresentWork();
  work.wake();
  for (let i = 0; i < 2; i++) {
    let isOver = false;
    const pause = work.pause(1000, clock).then(() => isOver = true);
    await clock.advance(999);
    assert.equal(isOver, false);
    await clock.advance(1);
    await pause;
    work.wake();
  }
});

Deno.test("an interruption ends what is being done, and the wait", async () => {
  const work = new PresentWork();
  const { signal } = work;
  const woken = work.woken();
  const why = new Error("it is dead now");
  work.interrupt(why);
  await woken;
  assert.equal(signal.reason, why);
  assert.equal(work.signal.aborted, false);
});
