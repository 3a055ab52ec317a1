import { deepEqual, equal, rejects } from "node:assert/strict";
import { forEachAtOnce } from "../../../src/internal/at_once.ts";

const turn = () => Promise.resolve();

Deno.test("items are begun in order, and never more than the limit are under way", async () => {
  const begun: number[] = [];
  let under = 0;
  let most = 0;
  await forEachAtOnce([1, 2, 3, 4, 5, 6, 7], { limit: 3 }, async (item) => {
    begun.push(item);
    most = Math.max(most, ++under);
    for (let i = 0; i < 8 - item; i++) await turn();
    under--;
  });
  deepEqual(begun, [1, 2, 3, 4, 5, 6, 7]);
  equal(most, 3);
  equal(under, 0);
});

Deno.test("a failure tells the others, begins no more, and waits until none is under way", async () => {
  const begun: number[] = [];
  const told: number[] = [];
  const failed = forEachAtOnce([1, 2, 3, 4, 5], { limit: 2 }, async (item, signal) => {
    begun.push(item);
    await turn();
    if (item === 1) throw new Error("first");
    for (let i = 0; i < 5; i++) await turn();
    if (signal.aborted) told.push(item);
  });
  await rejects(failed, { message: "first" });
  deepEqual(begun, [1, 2]);
  deepEqual(told, [2]);
});

Deno.test("the caller's signal reaches the work, whose error ends it", async () => {
  const stop = new AbortController();
  let count = 0;
  const work = forEachAtOnce([1, 2, 3, 4], { limit: 1, signal: stop.signal }, async (_, signal) => {
    await turn();
    signal.throwIfAborted();
    if (++count === 2) stop.abort(new Error("enough"));
  });
  await rejects(work, { message: "enough" });
  equal(count, 2);
});

Deno.test("no items, and fewer items than the limit, are done at once", async () => {
  const seen: string[] = [];
  await forEachAtOnce<string>([], { limit: 4 }, (item) => Promise.resolve(void seen.push(item)));
  await forEachAtOnce(["a"], { limit: 4 }, (item) => Promise.resolve(void seen.push(item)));
  deepEqual(seen, ["a"]);
});
