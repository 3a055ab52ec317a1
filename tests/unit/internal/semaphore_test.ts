import { deepEqual, equal, rejects } from "node:assert/strict";
import { AbortedError } from "../../../src/errors.ts";
import { Semaphore } from "../../../src/internal/semaphore.ts";

Deno.test("Semaphore lets callers in by order of arrival", async () => {
  const semaphore = new Semaphore(1);
  const order: number[] = [];
  const first = await semaphore.acquire();
  const rest = [1, 2, 3].map(async (i) => {
    using _permit = await semaphore.acquire();
    order.push(i);
  });
  equal(semaphore.waiting, 3);
  first[Symbol.dispose]();
  await Promise.all(rest);
  deepEqual(order, [1, 2, 3]);
  equal(semaphore.inside, 0);
});

Deno.test("Semaphore lets a waiting caller go when its signal fires", async () => {
  const semaphore = new Semaphore(1);
  using _permit = await semaphore.acquire();
  const controller = new AbortController();
  const waiting = semaphore.acquire(controller.signal);
  controller.abort();
  await rejects(waiting, AbortedError);
  equal(semaphore.waiting, 0);
});

Deno.test("Semaphore counts a permit that is disposed twice once", async () => {
  const semaphore = new Semaphore(2);
  const permit = await semaphore.acquire();
  permit[Symbol.dispose]();
  permit[Symbol.dispose]();
  equal(semaphore.inside, 0);
});
