/** Time as the code sees it, so that a test can drive it. */
export interface Clock {
  /** Milliseconds that only grow. */
  now(): number;
  /** Calls `callback` after `delayMs`; the result cancels it. */
  schedule(delayMs: number, callback: () => void): () => void;
}

/** What a timer of the system can wait; it fires at once for more. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The real time. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule(delayMs, callback) {
    if (delayMs === Infinity) return () => {};
    const timer = setTimeout(callback, Math.min(delayMs, LONGEST_TIMER_MS));
    return () => clearTimeout(timer);
  },
};
