/** How long a request is sent again while every server is gone and somebody brings them back. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Member } from "../../../src/engine/member.ts";
import { Patience } from "../../../src/engine/patience.ts";
import { RequestSender } from "../../../src/engine/request_sender.ts";
import { WorkerPool } from "../../../src/engine/workers.ts";
import { CrashedError, UnreachableError } from "../../../src/errors.ts";
import { silentLogger } from "../../../src/internal/logger.ts";
import { FakeClock } from "../../_support/clock.ts";

const url = "http://127.0.0.1:1";
const failure = (reason: "refused" | "other") => new UnreachableError("gone", { url, reason });

Deno.test("breaks are counted, refusals are timed, whatever comes in which order", () => {
  const steps = fc.array(
    fc.record({ isRefused: fc.boolean(), passMs: fc.nat(20_000) }),
    { maxLength: 60 },
  );
  fc.assert(fc.property(steps, fc.integer({ min: 1, max: 120_000 }), (events, timeoutMs) => {
    let now = 0;
    const clock = { now: () => now } as FakeClock;
    const patience = new Patience({ servingTimeoutMs: timeoutMs, isHealing: () => true, clock });
    let breaks = 0;
    let since: number | undefined;
    for (const { isRefused, passMs } of events) {
      now += passMs;
      const isAllowed = patience.allows(failure(isRefused ? "refused" : "other"));
      if (isRefused) assert.equal(isAllowed, now - (since ??= now) < timeoutMs);
      else assert.equal(isAllowed, ++breaks <= 8);
    }
  }));
});

/** A sender whose only server is dead until a time of the clock. */
function stage({ aliveAtMs, isHealing = true }: { aliveAtMs: number; isHealing?: boolean }) {
  const clock = new FakeClock();
  const crash = new CrashedError("it ended", { exitCode: 1, logTail: "" });
  const sample = { ids: new Int32Array(1), weightVersion: "1", finishReason: { type: "length" } };
  const reject = () => clock.now() < aliveAtMs ? failure("refused") : undefined;
  const client = {
    generate() {
      const error = reject();
      return error === undefined ? Promise.resolve(sample) : Promise.reject(error);
    },
    async *stream() {
      const error = reject();
      if (error !== undefined) throw error;
      yield { text: "", ids: sample.ids, logProbs: null, final: sample };
    },
  };
  const member = { url, client, crash, isServing: true, inFlight: 0, deterministic: true };
  const sender = new RequestSender({
    pool: new WorkerPool([member as unknown as Member]),
    rotation: { onSample() {} } as never,
    servingTimeoutMs: 120_000,
    equalPromptsWaitMs: 0,
    router: undefined,
    route: undefined,
    followRouter: undefined,
    samplingDefaults: undefined,
    isHealing: () => isHealing,
    report() {},
    logger: silentLogger,
    clock,
  });
  const planned = { request: { text: "x", samplingParams: {} }, body: {} } as never;
  const { signal } = new AbortController();
  return {
    clock,
    generate: () => sender.send(planned, 1, signal),
    stream: () => Array.fromAsync(sender.stream(planned, { signal, timeoutMs: undefined })),
  };
}

for (const how of ["generate", "stream"] as const) {
  Deno.test(`${how}: all servers dead, a supervisor brings them back after a minute: it waits for that`, async () => {
    const scene = stage({ aliveAtMs: 60_000 });
    const call: Promise<unknown[]> = scene[how]();
    await scene.clock.pass(call, { ms: 2_000, isStuck: () => scene.clock.pending > 0 });
    assert.equal((await call).length, 1);
  });

  Deno.test(`${how}: none comes back: it ends after servingTimeoutMs`, async () => {
    const scene = stage({ aliveAtMs: Infinity });
    const call: Promise<unknown[]> = scene[how]();
    const ended = call.catch(() => {});
    await scene.clock.pass(ended, { ms: 2_000, isStuck: () => scene.clock.pending > 0 });
    // What is known of the process is told by the one that has no part of an answer.
    await assert.rejects(call, { code: how === "generate" ? "crashed" : "unreachable" });
    const now = scene.clock.now();
    assert.ok(now >= 120_000 && now < 125_000, String(now));
  });
}

Deno.test("nobody brings them back: it ends at once, with how the process ended", async () => {
  const scene = stage({ aliveAtMs: Infinity, isHealing: false });
  await assert.rejects(scene.generate(), { code: "crashed" });
  assert.equal(scene.clock.now(), 0);
});
