import assert from "node:assert/strict";
import { untilStopped } from "../../../src/cli/until_stopped.ts";
import { FakeClock } from "../../_support/clock.ts";

Deno.test("a command that serves goes on for months, and ends with its signal or its failure", async () => {
  for (const endsBy of ["signal", "failure"] as const) {
    const clock = new FakeClock();
    const stop = new AbortController();
    const failed = Promise.withResolvers<Error>();
    const serving = untilStopped(failed.promise, stop.signal, clock);
    // The longest timer of JavaScript ends after 24.8 days.
    for (let day = 0; day < 100; day++) {
      await clock.advance(24 * 3_600_000);
      assert.equal(clock.pending, 1, `nothing keeps the process alive after day ${day}`);
    }
    if (endsBy === "signal") {
      stop.abort();
      await serving;
    } else {
      failed.resolve(new Error("no server is left"));
      await assert.rejects(serving, /no server is left/);
    }
    assert.equal(clock.pending, 0);
  }
});
