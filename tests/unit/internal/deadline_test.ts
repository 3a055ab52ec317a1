import { equal, rejects } from "node:assert/strict";
import { type AbortedError, TimeoutError } from "../../../src/errors.ts";
import { withDeadline } from "../../../src/internal/deadline.ts";
import { FakeClock } from "../../_support/clock.ts";

Deno.test("withDeadline() returns what the work returns and leaves no timer", async () => {
  const clock = new FakeClock();
  equal(await withDeadline({ phase: "p", timeoutMs: 5, clock }, () => Promise.resolve(7)), 7);
  equal(clock.pending, 0);
});

Deno.test("withDeadline() names phase, peer and what was last heard when time is up", async () => {
  const clock = new FakeClock();
  const wait = withDeadline(
    { phase: "init", timeoutMs: 50, peer: "rank 1", lastHeard: () => "PING", clock },
    () => new Promise(() => {}),
  );
  const checked = rejects(wait, (error: TimeoutError) => {
    equal(error.code, "timeout");
    equal(
      error.message,
      'Timed out in phase "init" after 50 ms, waiting for rank 1; last heard: PING',
    );
    return true;
  });
  await clock.advance(50);
  await checked;
});

Deno.test("withDeadline() rejects with the caller's reason as cause when aborted", async () => {
  const controller = new AbortController();
  const wait = withDeadline(
    { phase: "p", timeoutMs: Infinity, signal: controller.signal },
    () => new Promise(() => {}),
  );
  controller.abort("enough");
  await rejects(
    wait,
    (error: AbortedError) => error.code === "aborted" && error.cause === "enough",
  );
});

Deno.test("withDeadline() tells the work to stop at the deadline", async () => {
  const clock = new FakeClock();
  let stopped = false;
  const wait = withDeadline({ phase: "p", timeoutMs: 10, clock }, (signal) => {
    signal.addEventListener("abort", () => stopped = true);
    return new Promise(() => {});
  });
  const checked = rejects(wait, TimeoutError);
  await clock.advance(10);
  await checked;
  equal(stopped, true);
});

Deno.test("withDeadline() disposes what was opened too late, and only then", async () => {
  for (const name of [Symbol.dispose, Symbol.asyncDispose] as const) {
    const clock = new FakeClock();
    let closed = 0;
    const owner = { [name]: () => void closed++ };
    equal(
      await withDeadline({ phase: "p", timeoutMs: 5, clock }, () => Promise.resolve(owner)),
      owner,
    );
    equal(closed, 0);

    const late = Promise.withResolvers<typeof owner>();
    const checked = rejects(
      withDeadline({ phase: "p", timeoutMs: 5, clock }, () => late.promise),
      TimeoutError,
    );
    await clock.advance(5);
    await checked;
    late.resolve(owner);
    await late.promise;
    await Promise.resolve();
    equal(closed, 1);
  }
});
