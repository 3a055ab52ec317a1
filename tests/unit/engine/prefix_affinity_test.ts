/** A prompt goes to the server that had its beginning, as long as none has far more to do. */
import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import fc from "fast-check";
import type { Member } from "../../../src/engine/member.ts";
import { beginningsOf } from "../../../src/engine/prefix_affinity.ts";
import { WorkerPool } from "../../../src/engine/workers.ts";
import { seeded } from "../../_support/seeded.ts";

function member(url: string): Member {
  return { url, inFlight: 0, isServing: true, crash: undefined } as unknown as Member;
}

const members = (count: number) => Array.from({ length: count }, (_, i) => member(`http://${i}`));

const ids = (random: () => number, count: number) =>
  Array.from({ length: count }, () => Math.floor(random() * 50_000));

Deno.test("a dialog stays on its server, whatever the lengths of its turns and prompts shared by all", () => {
  fc.assert(
    fc.property(
      fc.record({
        servers: fc.integer({ min: 2, max: 64 }),
        dialogs: fc.integer({ min: 1, max: 40 }),
        shared: fc.constantFrom(0, 10, 300),
        seed: fc.integer(),
      }),
      ({ servers, dialogs, shared, seed }) => {
        const random = seeded(seed);
        const pool = new WorkerPool(members(servers));
        const system = ids(random, shared);
        const prompts = Array.from(
          { length: dialogs },
          () => [...system, ...ids(random, 20 + random() * 2 * shared)],
        );
        const first = prompts.map((prompt) => pool.lease(undefined, beginningsOf({ prompt })));
        for (const lease of first) lease[Symbol.dispose]();
        for (let turn = 1; turn < 6; turn++) {
          const later = prompts.map((prompt) => {
            // An answer may be much longer than what was there before.
            prompt.push(...ids(random, 1 + random() * 800));
            return pool.lease(undefined, beginningsOf({ prompt }));
          });
          // Eight is what a server may have more than another, so none of so few has to move.
          if (dialogs <= 8) {
            for (const [i, { worker }] of later.entries()) equal(worker, first[i]!.worker);
          }
          for (const lease of later) lease[Symbol.dispose]();
        }
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("equal prompts go to one server, and a session too, whatever its prompts", () => {
  const pool = new WorkerPool(members(5));
  const prompt = "What is the answer to everything?";
  const same = Array.from(
    { length: 8 },
    () => pool.lease(undefined, beginningsOf({ prompt })).worker,
  );
  equal(new Set(same).size, 1);
  const session = Array.from(
    { length: 4 },
    (_, i) => pool.lease(undefined, beginningsOf({ prompt: `${i}`, session: "s" })).worker,
  );
  equal(new Set(session).size, 1);
  const adapter = pool.lease(undefined, beginningsOf({ prompt, scope: "adapter" })).worker;
  notEqual(adapter, same[0]);
});

Deno.test("load is within a tenth of the mean, also when all prompts begin alike and servers come and go", () => {
  fc.assert(
    fc.property(
      fc.record({
        servers: fc.integer({ min: 2, max: 64 }),
        shared: fc.constantFrom(0, 200),
        seed: fc.integer(),
      }),
      ({ servers, shared, seed }) => {
        const random = seeded(seed);
        const pool = new WorkerPool(members(servers));
        const system = ids(random, shared);
        const dialogs = Array.from({ length: servers * 50 }, () => [...system, ...ids(random, 40)]);
        const open: (Disposable & { worker: Member })[] = [];
        const send = (dialog: number) => {
          const lease = pool.lease(undefined, beginningsOf({ prompt: dialogs[dialog]! }));
          ok(pool.serving.includes(lease.worker as Member), lease.worker.url);
          open.push(lease);
        };
        const level = () => {
          const loads = pool.workers.map(({ inFlight }) => inFlight);
          const mean = loads.reduce((sum, load) => sum + load, 0) / loads.length;
          // One request is whole, and the mean was another when it was sent.
          ok(Math.max(...loads) <= Math.max(1.1 * mean, Math.min(...loads) + 8) + 1, `${loads}`);
        };
        for (const dialog of dialogs.keys()) send(dialog);
        level();
        // One dies: what it had is sent again, to others.
        const gone = pool.workers[0]!;
        const lost = open.filter(({ worker }) => worker === gone);
        pool.forget(gone);
        for (const lease of lost) {
          open.splice(open.indexOf(lease), 1);
          lease[Symbol.dispose]();
          send(Math.floor(random() * dialogs.length));
        }
        level();
        // One joins: as turns end and begin it gets its share.
        pool.add(member("http://new"));
        for (let i = 0; i < 3 * dialogs.length; i++) {
          open.splice(Math.floor(random() * open.length), 1)[0]![Symbol.dispose]();
          send(Math.floor(random() * dialogs.length));
        }
        const mean = open.length / pool.workers.length;
        const joined = pool.find("http://new")!;
        ok(joined.inFlight >= Math.min(0.5 * mean, mean - 12), `${joined.inFlight} of ${mean}`);
      },
    ),
    { numRuns: 15 },
  );
});

Deno.test("a server that dies or joins moves nobody else's dialogs", () => {
  fc.assert(
    fc.property(
      fc.record({
        servers: fc.integer({ min: 2, max: 64 }),
        dialogs: fc.integer({ min: 1, max: 200 }),
        seed: fc.integer(),
      }),
      ({ servers, dialogs, seed }) => {
        const random = seeded(seed);
        const pool = new WorkerPool(members(servers));
        const prompts = Array.from({ length: dialogs }, () => ids(random, 40));
        // One after the other, so that no bound on the load moves any.
        const turn = () =>
          prompts.map((prompt) => {
            prompt.push(...ids(random, 1 + random() * 100));
            using lease = pool.lease(undefined, beginningsOf({ prompt }));
            return lease.worker;
          });
        const before = turn();
        const gone = pool.workers[Math.floor(random() * servers)]!;
        pool.forget(gone);
        const after = turn();
        for (const [i, worker] of after.entries()) {
          if (before[i] !== gone) equal(worker, before[i]);
          else notEqual(worker, gone);
        }
        pool.add(member("http://new"));
        deepEqual(turn(), after);
      },
    ),
    { numRuns: 30 },
  );
});
