/** The server with the fewest requests is asked; equal ones take turns; the dead are left out. */
import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import type { Member } from "../../../src/engine/member.ts";
import { WorkerPool } from "../../../src/engine/workers.ts";

/** Servers as the pool sees them. */
function members(count: number, facts: Partial<Member> = {}): Member[] {
  return Array.from({ length: count }, (_, i) => ({
    url: `http://${i}`,
    inFlight: 0,
    isServing: true,
    crash: undefined,
    ...facts,
  })) as unknown as Member[];
}

Deno.test("the server with the fewest requests is asked, whichever requests end first", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 6 }), fc.array(fc.nat(40)), (count, steps) => {
    const all = members(count);
    const pool = new WorkerPool(all);
    const leases: Disposable[] = [];
    for (const step of steps) {
      if (step % 3 === 0 && leases.length > 0) {
        // Any of them may end first, not only the oldest.
        leases.splice(step % leases.length, 1)[0]![Symbol.dispose]();
        continue;
      }
      const least = Math.min(...all.map(({ inFlight }) => inFlight));
      const lease = pool.lease();
      equal((lease.worker as Member).inFlight, least + 1);
      leases.push(lease);
    }
    for (const lease of leases) lease[Symbol.dispose]();
    ok(all.every(({ inFlight }) => inFlight === 0));
  }));
});

Deno.test("equal servers take turns", () => {
  const pool = new WorkerPool(members(3));
  const urls = Array.from({ length: 6 }, () => {
    using lease = pool.lease();
    return lease.worker.url;
  });
  deepEqual(urls.toSorted(), ["0", "0", "1", "1", "2", "2"].map((i) => `http://${i}`));
});

Deno.test("those that do not serve, are dead or were tried are asked last", () => {
  const [idle, busy, dead] = members(3) as [Member, Member, Member];
  Object.assign(idle, { isServing: false });
  Object.assign(busy, { inFlight: 9 });
  Object.assign(dead, { crash: new Error("it ended") });
  const pool = new WorkerPool([idle, busy, dead]);
  equal(pool.lease().worker.url, busy.url);
  const [tried, other] = members(2) as [Member, Member];
  Object.assign(other, { inFlight: 3 });
  equal(new WorkerPool([tried, other]).lease(new Set([tried])).worker.url, other.url);
});
