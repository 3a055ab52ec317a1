import { AbortedError, TimeoutError } from "../errors.ts";
import { type Clock, systemClock } from "./clock.ts";

/** What a wait is called and how long it may take. */
export interface WaitOptions {
  /** Name of the wait; appears in the error. */
  readonly phase: string;
  /** Longest wait; `Infinity` leaves only the signal. */
  readonly timeoutMs: number;
  /** Who is waited for. */
  readonly peer?: string | undefined;
  /** Called when the deadline passes: what was last heard from the peer. */
  readonly lastHeard?: (() => string | undefined) | undefined;
  /** What the user can do about it. */
  readonly hint?: string | undefined;
  /** The caller's cancellation. */
  readonly signal?: AbortSignal | undefined;
  /** The time to use. */
  readonly clock?: Clock | undefined;
}

/**
 * Runs `work` with a signal that fires at the deadline or with the caller's signal. The result
 * rejects at that moment, even when `work` ignores its signal; what `work` still opens is disposed
 * then, since nobody else ever sees it.
 */
export async function withDeadline<T>(
  options: WaitOptions,
  work: (signal: AbortSignal) => PromiseLike<T>,
): Promise<T> {
  const { phase, timeoutMs, peer, hint, signal } = options;
  const clock = options.clock ?? systemClock;
  throwIfAborted(signal, phase);
  const inner = new AbortController();
  const ended = Promise.withResolvers<never>();
  const end = (error: Error) => {
    inner.abort(error);
    ended.reject(error);
  };
  const onAbort = () => end(new AbortedError(phase, { cause: signal?.reason }));
  const cancel = timeoutMs === Infinity ? () => {} : clock.schedule(timeoutMs, () => {
    end(new TimeoutError({ phase, timeoutMs, peer, lastHeard: options.lastHeard?.(), hint }));
  });
  signal?.addEventListener("abort", onAbort, { once: true });
  let result: PromiseLike<T> | undefined;
  try {
    result = work(inner.signal);
    return await Promise.race([result, ended.promise]);
  } catch (error) {
    if (inner.signal.aborted) result?.then(disposeOf, () => {});
    // Work that rejects because of our signal may wrap it: the deadline's own error says more.
    throw inner.signal.aborted ? inner.signal.reason : error;
  } finally {
    cancel();
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Closes what came too late, where it is something to close. */
async function disposeOf(late: unknown): Promise<void> {
  const owner = late as Partial<Disposable & AsyncDisposable> | null | undefined;
  if (typeof owner !== "object" || owner === null) return;
  try {
    if (owner[Symbol.asyncDispose] !== undefined) await owner[Symbol.asyncDispose]!();
    else owner[Symbol.dispose]?.();
  } catch { /* Nobody is left who could be told. */ }
}

/** @throws {AbortedError} When the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, phase: string): void {
  if (signal?.aborted) throw new AbortedError(phase, { cause: signal.reason });
}

/** Waits `delayMs`; rejects with an {@linkcode AbortedError} when the signal fires first. */
export function sleep(
  delayMs: number,
  options: { signal?: AbortSignal | undefined; clock?: Clock | undefined; phase?: string } = {},
): Promise<void> {
  const { signal, clock = systemClock, phase = "sleep" } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(new AbortedError(phase, { cause: signal.reason }));
      return;
    }
    const onAbort = () => {
      cancel();
      reject(new AbortedError(phase, { cause: signal?.reason }));
    };
    const cancel = clock.schedule(delayMs, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
