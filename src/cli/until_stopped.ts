import { type Clock, systemClock } from "../internal/clock.ts";

const ONE_HOUR_MS = 3_600_000;

/**
 * Keeps the process alive until the signal fires; rejects with what `failed` resolves with. Listeners,
 * managed servers and handlers of signals alone would let it end.
 */
export async function untilStopped(
  failed: Promise<Error>,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<void> {
  if (signal.aborted) return;
  const { promise: fired, resolve } = Promise.withResolvers<undefined>();
  const onAbort = () => resolve(undefined);
  signal.addEventListener("abort", onAbort, { once: true });
  // A timer that waits keeps the process alive, and none waits for ever.
  let release = () => {};
  const stay = () => void (release = clock.schedule(ONE_HOUR_MS, stay));
  stay();
  try {
    const failure = await Promise.race([failed, fired]);
    if (failure !== undefined) throw failure;
  } finally {
    release();
    signal.removeEventListener("abort", onAbort);
  }
}
