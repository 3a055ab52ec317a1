/** In which order a server is told of updates, and what becomes of those under way at a failure. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import fc from "fast-check";
import { AbortedError, UnreachableError } from "../../../src/errors.ts";
import type { FleetServer } from "../../../src/weights/fleet/server.ts";
import { sendInLanes } from "../../../src/weights/sync/lanes.ts";
import { SharedFeed } from "../../../src/weights/transport/shared_feed.ts";
import type { TransportUpdate, UpdateCall } from "../../../src/weights/transport/transport.ts";
import { FakeClock, turns } from "../../_support/clock.ts";

/** One update of one server, which the test asks for, answers and ends. */
interface Sent {
  readonly server: string;
  readonly index: number;
  readonly call: UpdateCall;
  readonly end: PromiseWithResolvers<void>;
  /** Whether its server was told. */
  told: boolean;
}

function serverNamed(url: string): FleetServer {
  return {
    url,
    whileUpdating: (_place: unknown, call: () => Promise<void>) => call(),
  } as unknown as FleetServer;
}

/** Lanes over updates that last until the test ends them. */
function lanes(names: readonly string[], count: number, signal?: AbortSignal) {
  const sent: Sent[] = [];
  const passed: string[] = [];
  const updates = Array.from({ length: count }, (_, index): TransportUpdate => ({
    message: `update ${index}`,
    byteLength: 1,
    async send(call) {
      const end = Promise.withResolvers<void>();
      end.promise.catch(() => {});
      const cut = () => end.reject(new AbortedError(call.phase));
      call.signal?.addEventListener("abort", cut, { once: true });
      const one: Sent = { server: call.servers[0]!.url, index, call, end, told: false };
      sent.push(one);
      const telling = (async () => {
        await call.queue!.turn;
        one.told = true;
        await call.whileUpdating(call.servers[0]!, () => Promise.resolve());
      })();
      await Promise.race([end.promise, Promise.all([telling, end.promise])]);
    },
  }));
  const servers = names.map(serverNamed);
  const done = sendInLanes({
    servers,
    updates,
    timeoutMs: 60_000,
    stragglerMs: 5_000,
    clock: new FakeClock(),
    write: (_server, _phase, update) => update(),
    isFatal: () => false,
    signal,
    step: async (update, work) => {
      await work();
      passed.push(update.message);
    },
  });
  done.catch(() => {});
  const of = (server: string) => sent.filter((one) => one.server === server);
  return { sent, of, passed, done };
}

Deno.test("the next update gets ready once the last is asked for; its server is told once it has answered", async () => {
  const { of, passed, done } = lanes(["a"], 3);
  await turns();
  equal(of("a").length, 1);
  of("a")[0]!.call.queue!.asked();
  await turns();
  equal(of("a").length, 2);
  deepEqual(of("a").map(({ told }) => told), [true, false]);
  of("a")[0]!.call.queue!.answered();
  await turns();
  deepEqual(of("a").map(({ told }) => told), [true, true]);
  deepEqual(passed, []);
  of("a")[0]!.end.resolve();
  await turns();
  deepEqual(passed, ["update 0"]);
  equal(of("a").length, 2);
  of("a")[1]!.end.resolve();
  await turns();
  of("a")[2]!.end.resolve();
  deepEqual((await done).lost, []);
  deepEqual(passed, ["update 0", "update 1", "update 2"]);
});

Deno.test("a way that knows of no queue has one update at a time on its way", async () => {
  const { of, done } = lanes(["a"], 3);
  for (let i = 0; i < 3; i++) {
    await turns(3);
    equal(of("a").length, i + 1);
    equal(of("a")[i]!.told, true);
    of("a")[i]!.end.resolve();
  }
  deepEqual((await done).lost, []);
});

Deno.test("whatever is asked for, answered and ended when, servers are told in order, after each answer", async () => {
  const steps = fc.array(
    fc.record({ what: fc.constantFrom("ask", "answer", "end"), pick: fc.nat() }),
    { maxLength: 80 },
  );
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 1, max: 3 }), async (some, count) => {
      const names = ["a", "b", "c"].slice(0, count);
      const { sent, of, done } = lanes(names, 4);
      const answered = new Set<Sent>();
      const ended = new Set<Sent>();
      const endNext = (server: string) => {
        // A group sends in order, and what a server was not told of does not end.
        const one = of(server).find((each) => !ended.has(each));
        if (one?.told) ended.add(one), answered.add(one), one.end.resolve();
      };
      for (const { what, pick } of some) {
        await turns();
        if (what === "ask") sent[pick % Math.max(1, sent.length)]?.call.queue?.asked();
        else if (what === "end") endNext(names[pick % names.length]!);
        else {
          const waiting = sent.filter((one) => one.told && !answered.has(one));
          const one = waiting[pick % Math.max(1, waiting.length)];
          if (one !== undefined) answered.add(one), one.call.queue!.answered();
        }
        await turns();
        for (const name of names) {
          const mine = of(name);
          deepEqual(mine.map(({ index }) => index), mine.map((_, i) => i));
          const told = mine.filter((one) => one.told);
          deepEqual(told, mine.slice(0, told.length));
          ok(told.slice(0, -1).every((each) => answered.has(each)));
        }
      }
      for (let i = 0; i < 8; i++) {
        await turns(2);
        names.forEach(endNext);
      }
      deepEqual((await done).lost, []);
      equal(sent.length, 4 * names.length);
    }),
    { numRuns: 40 },
  );
});

Deno.test("a server that dies with two updates on their way is named as gone; the others go on", async () => {
  const { of, passed, done } = lanes(["a", "b"], 3);
  await turns();
  of("a")[0]!.call.queue!.asked();
  of("a")[0]!.call.queue!.answered();
  await turns();
  const gone = new UnreachableError("connection closed", { url: "a" });
  of("a")[1]!.end.reject(gone);
  await turns();
  // What was on its way is cut off, or a collective without a peer would last for good.
  await rejects(of("a")[0]!.end.promise, AbortedError);
  for (const i of [0, 1, 2]) {
    of("b")[i]!.end.resolve();
    await turns();
  }
  const { lost } = await done;
  deepEqual(lost.map(({ server, phase, error }) => [server.url, phase, error]), [
    ["a", "update 1", gone],
  ]);
  equal(of("a").length, 2);
  deepEqual(passed, ["update 0", "update 1", "update 2"]);
});

Deno.test("of two updates that fail, the one that was cut off is not the cause", async () => {
  const { of, done } = lanes(["a", "b"], 2);
  await turns();
  of("a")[0]!.call.queue!.asked();
  await turns();
  // The group is aborted for the second one's sake, and the first hears of it first.
  of("a")[0]!.end.reject(new AbortedError("ncclBroadcast"));
  const own = new Error("the source cannot be read");
  of("a")[1]!.end.reject(own);
  for (const i of [0, 1]) {
    await turns();
    of("b")[i]!.end.resolve();
  }
  const { lost } = await done;
  deepEqual(lost.map(({ phase, error }) => [phase, error]), [["update 1", own]]);
});

Deno.test("an update whose server refuses it fails with that; the next is never told", async () => {
  const { of, done } = lanes(["a", "b"], 2);
  await turns();
  of("a")[0]!.call.queue!.asked();
  await turns();
  const refusal = new Error("a shape does not fit");
  of("a")[0]!.end.reject(refusal);
  for (const i of [0, 1]) {
    await turns();
    of("b")[i]!.end.resolve();
  }
  const { lost } = await done;
  deepEqual(lost.map(({ phase, error }) => [phase, error]), [["update 0", refusal]]);
  equal(of("a")[1]!.told, false);
});

Deno.test("cancelled with two updates on their way, both end and nothing more is sent", async () => {
  const stop = new AbortController();
  const { sent, done } = lanes(["a"], 4, stop.signal);
  await turns();
  sent[0]!.call.queue!.asked();
  await turns();
  stop.abort();
  await rejects(done, AbortedError);
  equal(sent.length, 2);
});

Deno.test("a shared feed keeps no more than it can, whoever is fast", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 8 }),
      fc.array(fc.nat(), { maxLength: 80 }),
      async (kept, count, order) => {
        const readers = ["a", "b", "c"];
        const done = new Map(readers.map((reader) => [reader, 0]));
        let made = 0;
        const feed = new SharedFeed(count, readers, (index) => {
          equal(index, made++);
          ok(made - Math.min(...done.values()) <= kept);
          return Promise.resolve(index);
        }, kept);
        await feed.begin();
        for (const pick of order) {
          await turns();
          const reader = readers[pick % 3]!;
          const next = done.get(reader)!;
          if (next >= made) continue;
          equal(await feed.take(next), next);
          done.set(reader, next + 1);
          feed.done(next, reader);
        }
        await turns();
        equal(made, Math.min(count, Math.min(...done.values()) + kept));
      },
    ),
    { numRuns: 60 },
  );
});
