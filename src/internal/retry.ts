import type { Clock } from "./clock.ts";
import { sleep } from "./deadline.ts";

/** How often and how long apart to try again. */
export interface RetryOptions {
  /** Tries after the first one. */
  readonly retries: number;
  /** First pause, in milliseconds. */
  readonly initialDelayMs: number;
  /** Longest pause. */
  readonly maxDelayMs: number;
  /** Share of each pause that is random, 0 to 1. */
  readonly jitter: number;
  /** Whether another try can help after this error. */
  readonly shouldRetry: (error: unknown) => boolean;
  /** Told why before the pause of each further try. */
  readonly onRetry?: ((error: unknown) => void) | undefined;
  /** The caller's cancellation. */
  readonly signal?: AbortSignal | undefined;
  /** The time to use. */
  readonly clock?: Clock | undefined;
  /** Source of randomness in [0, 1). */
  readonly random?: (() => number) | undefined;
}

/** Runs `work` until it succeeds, the tries are used up, or an error is not worth another try. */
export async function retry<T>(
  options: RetryOptions,
  work: (attempt: number) => Promise<T>,
): Promise<T> {
  const random = options.random ?? Math.random;
  for (let attempt = 0;; attempt++) {
    try {
      return await work(attempt);
    } catch (error) {
      if (attempt >= options.retries || !options.shouldRetry(error)) throw error;
      options.onRetry?.(error);
      const full = Math.min(options.maxDelayMs, options.initialDelayMs * 2 ** attempt);
      const delayMs = full * (1 - options.jitter * random());
      await sleep(delayMs, { signal: options.signal, clock: options.clock, phase: "retry pause" });
    }
  }
}
