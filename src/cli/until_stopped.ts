import { systemClock } from "../internal/clock.ts";

/**
 * Keeps the process alive until the signal fires; rejects with what `failed` resolves with. Listeners,
 * managed servers and handlers of signals alone would let it end.
 */
export async function untilStopped(failed: Promise<Error>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise: fired, resolve } = Promise.withResolvers<undefined>();
  const onAbort = () => resolve(undefined);
  signal.addEventListener("abort", onAbort, { once: true });
  const release = systemClock.schedule(2 ** 31 - 1, () => {});
  try {
    const failure = await Promise.race([failed, fired]);
    if (failure !== undefined) throw failure;
  } finally {
    release();
    signal.removeEventListener("abort", onAbort);
  }
}
