import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { Slices } from "../../../src/collector/slices.ts";

Deno.test("of many dialogs that may go on in one moment only some do before others have their turn", async () => {
  const slices = new Slices({ now: () => 0 });
  const order: number[] = [];
  const all = Array.from({ length: 5000 }, async (_, dialog) => {
    await slices.turn();
    order.push(dialog);
  });
  let most = 0;
  let turnsOfOthers = 0;
  for (let before = 0; order.length < 5000; before = order.length) {
    await setImmediate();
    most = Math.max(most, order.length - before);
    turnsOfOthers++;
  }
  await Promise.all(all);
  assert.deepEqual(order, [...order].sort((a, b) => a - b), "first come, first served");
  assert.ok(most <= 2048, `${most} at once`);
  assert.ok(turnsOfOthers >= 5, `${turnsOfOthers}`);
});

Deno.test("few dialogs go on at once, without waiting for the event loop", async () => {
  const slices = new Slices({ now: () => 0 });
  let done = 0;
  for (let dialog = 0; dialog < 16; dialog++) void slices.turn().then(() => done++);
  await Promise.resolve();
  await Promise.resolve();
  assert.equal(done, 16);
  await setImmediate();
});

Deno.test("work that takes long makes the next slices small", async () => {
  let now = 0;
  const slices = new Slices({ now: () => now });
  const counts: number[] = [];
  let count = 0;
  const all = Array.from({ length: 200 }, async () => {
    await slices.turn();
    count++;
    now += 2;
  });
  for (let before = 0; count < 200; before = count) {
    await setImmediate();
    counts.push(count - before);
  }
  await Promise.all(all);
  assert.ok(Math.max(...counts.slice(2)) <= 4, `slices of ${counts}, of 2 ms each`);
});
