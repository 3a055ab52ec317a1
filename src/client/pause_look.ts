import { HttpError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { sleep } from "../internal/deadline.ts";

/** How long a server that is not paused may take to refuse what it refuses at once. */
const REFUSAL_MS = 1_000;
/** How long it may take still, once it has answered what was asked later. */
const LATE_MS = 500;

/** What to ask a server. */
export interface PauseQuestions {
  /** Whether it says that it takes requests; `undefined` where it cannot say that (to 0.5.19). */
  readonly ready: ((signal: AbortSignal) => Promise<boolean>) | undefined;
  /** Sends a request that it refuses without running anything. */
  readonly refused: (signal: AbortSignal) => Promise<unknown>;
  /** Resolves when it has answered something that it answers while it is paused, too. */
  readonly answers: (signal: AbortSignal) => Promise<unknown>;
}

/**
 * Whether a server is paused. Up to 0.5.19 none says so, and `/ready` of later ones says no as well
 * before they are warm. But requests wait at the gate of a paused server before they are looked at,
 * so one that would be refused at once is not answered, while what was asked later is
 * (`srt/managers/tokenizer_manager.py`, `generate_request`).
 */
export async function looksPaused(
  { ready, refused, answers }: PauseQuestions,
  { signal, clock }: { readonly signal: AbortSignal | undefined; readonly clock: Clock },
): Promise<boolean> {
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  try {
    if (await ready?.(either)) return false;
    const wait = (ms: number) => sleep(ms, { signal: either, clock, phase: "look for a pause" });
    const refusal = refused(either).then(() => true, (error) => {
      if (error instanceof HttpError) return true;
      throw error;
    });
    // It may fail when nobody waits for it any more.
    refusal.catch(() => {});
    const isRefused = (ms: number) => Promise.race([refusal, wait(ms).then(() => false)]);
    if (await isRefused(REFUSAL_MS)) return false;
    await Promise.race([refusal, answers(either)]);
    return !await isRefused(LATE_MS);
  } finally {
    stop.abort();
  }
}
