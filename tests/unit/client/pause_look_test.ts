import assert from "node:assert/strict";
import { HttpError, UnreachableError } from "../../../src/errors.ts";
import { looksPaused, type PauseQuestions } from "../../../src/client/pause_look.ts";
import { FakeClock, turns } from "../../_support/clock.ts";

const refusal = new HttpError("400", { status: 400, endpoint: "", serverMessage: "" });
const never = () => new Promise<never>(() => {});

/** Asks a server that answers as given, and passes time while nothing else happens. */
async function look(questions: Partial<PauseQuestions>, signal?: AbortSignal): Promise<boolean> {
  const clock = new FakeClock();
  let isDone = false;
  const answer = looksPaused(
    { ready: undefined, refused: never, answers: () => Promise.resolve(), ...questions },
    { signal, clock },
  ).finally(() => isDone = true);
  answer.catch(() => {});
  for (let i = 0; i < 50 && !isDone; i++) {
    await turns();
    await clock.advance(100);
  }
  return await answer;
}

Deno.test("a server that says that it takes requests is asked nothing else", async () => {
  const refused = () => Promise.reject(new Error("asked"));
  assert.equal(await look({ ready: () => Promise.resolve(true), refused }), false);
});

Deno.test("a server that is not ready, but refuses what it refuses at once, is not paused", async () => {
  const refused = () => Promise.reject(refusal);
  assert.equal(await look({ ready: () => Promise.resolve(false), refused }), false);
  assert.equal(await look({ refused }), false);
});

Deno.test("a server whose gate is closed while it answers other things is paused", async () => {
  assert.equal(await look({}), true);
  assert.equal(await look({ ready: () => Promise.resolve(false) }), true);
});

Deno.test("a slow server is not taken for a paused one", async () => {
  // It answers in the order in which it was asked, after any time.
  const slow = Promise.withResolvers<never>();
  slow.promise.catch(() => {});
  const answers = () => Promise.resolve().then(() => slow.reject(refusal));
  assert.equal(await look({ refused: () => slow.promise, answers }), false);
});

Deno.test("a server that is gone is no paused one", async () => {
  const gone = new UnreachableError("gone", { url: "http://127.0.0.1:1", reason: "refused" });
  await assert.rejects(look({ refused: () => Promise.reject(gone) }), gone);
  await assert.rejects(look({ answers: () => Promise.reject(gone) }), gone);
});

Deno.test("the caller's signal ends the look, and the look ends what it asked", async () => {
  const signals: AbortSignal[] = [];
  const refused = (signal: AbortSignal) => {
    signals.push(signal);
    return never();
  };
  assert.equal(await look({ refused }), true);
  assert.equal(signals[0]!.aborted, true);
  const stop = AbortSignal.abort();
  await assert.rejects(look({ refused, answers: never }, stop), { code: "aborted" });
});
