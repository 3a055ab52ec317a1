/** The first of equal prompts goes ahead, so that the others find it in the server's cache. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import fc from "fast-check";
import { EqualPrompts, type Turn } from "../../../src/engine/equal_prompts.ts";
import { beginningsOf } from "../../../src/engine/prefix_affinity.ts";
import { FakeClock } from "../../_support/clock.ts";

const server = {};
const promptOf = (number: number, tokens = 100) =>
  Array.from({ length: tokens }, (_, i) => number * 1000 + i);
const found = { promptTokens: 100, cachedTokens: 99 };
const notFound = { promptTokens: 100, cachedTokens: 0 };

function setUp(mostMs = 500) {
  const clock = new FakeClock();
  const equalPrompts = new EqualPrompts<object>(clock, mostMs);
  const take = (
    prompt: string | readonly number[],
    { signal = new AbortController().signal, session }: {
      signal?: AbortSignal;
      session?: string;
    } = {},
  ) => equalPrompts.turn(server, { prompt, session }, beginningsOf({ prompt }), signal);
  return { clock, take };
}

/** Whether each has its turn by now. */
async function given(turns: readonly Promise<Turn>[]): Promise<boolean[]> {
  const waiting = Symbol();
  return await Promise.all(turns.map(async (turn) => {
    for (let i = 0; i < 10; i++) await null;
    return await Promise.race([turn, Promise.resolve(waiting)]) !== waiting;
  }));
}

Deno.test("of any prompts the first of each goes at once, the others wait no longer than the option says", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 40 }),
    fc.integer({ min: 1, max: 1000 }),
    async (numbers, mostMs) => {
      const { clock, take } = setUp(mostMs);
      const turns = numbers.map((number) => take(promptOf(number)));
      const isFirst = numbers.map((number, i) => numbers.indexOf(number) === i);
      deepEqual(await given(turns), isFirst);
      await clock.advance(mostMs);
      ok((await given(turns)).every(Boolean));
      equal(clock.pending, 0);
    },
  ));
});

Deno.test("equal prompts wait for those before them too, since a server computes one after the other", async () => {
  const { clock, take } = setUp();
  await take(promptOf(1));
  await take(promptOf(2));
  const turns = [take(promptOf(1)), take(promptOf(2))];
  await clock.advance(50);
  deepEqual(await given(turns), [true, false]);
  await clock.advance(50);
  deepEqual(await given(turns), [true, true]);
});

Deno.test("the first one's answer, or its end without one, lets the others go", async () => {
  const { clock, take } = setUp();
  const first = await take(promptOf(1));
  const other = take(promptOf(1));
  deepEqual(await given([other]), [false]);
  first[Symbol.dispose]();
  deepEqual(await given([other]), [true]);
  equal(clock.pending, 0);
});

Deno.test("a wait ends with the request's signal and leaves no timer", async () => {
  const { clock, take } = setUp();
  await take(promptOf(1));
  const caller = new AbortController();
  const waiting = take(promptOf(1), { signal: caller.signal });
  caller.abort(new Error("enough"));
  await rejects(waiting, /enough/);
  await rejects(take(promptOf(1), { signal: caller.signal }), /enough/);
  equal(clock.pending, 0);
});

Deno.test("short prompts, sessions, and all where the wait is 0, go at once", async () => {
  const { take } = setUp();
  const none = setUp(0);
  const turns = [1, 2].flatMap(() => [
    take(promptOf(1, 49)),
    take("x".repeat(199)),
    take(promptOf(2), { session: "s" }),
    none.take(promptOf(1)),
  ]);
  ok((await given(turns)).every(Boolean));
});

/** How long the second of two prompts waits, and tells what it found. */
async function waitMs(
  { clock, take }: ReturnType<typeof setUp>,
  number: number,
  sample: Parameters<Turn["answered"]>[0],
): Promise<number> {
  using _first = await take(promptOf(number));
  const before = clock.now();
  const second = take(promptOf(number));
  while (!(await given([second]))[0]) await clock.advance(0.25);
  (await second).answered(sample);
  const waited = clock.now() - before;
  await clock.advance(1000);
  return waited;
}

Deno.test("who finds nothing lets the next ones wait longer, who finds it shorter", async () => {
  const fixture = setUp();
  const first = await waitMs(fixture, 1, notFound);
  const second = await waitMs(fixture, 2, found);
  const third = await waitMs(fixture, 3, { promptTokens: null, cachedTokens: null });
  equal(second, 2 * first);
  ok(third < second && third > first, `${first}, ${second}, ${third}`);
  equal(await waitMs(fixture, 4, found), third);
});

Deno.test("for a server that keeps no cache nobody waits in the end", async () => {
  const fixture = setUp(500);
  const waits: number[] = [];
  for (let i = 0; i < 40; i++) waits.push(await waitMs(fixture, i, notFound));
  equal(Math.max(...waits), 500);
  equal(waits.at(-1), 0);
});
