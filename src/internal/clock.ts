/** Time as the code sees it, so that a test can drive it. */
export interface Clock {
  /** Milliseconds that only grow. */
  now(): number;
  /** Calls `callback` after `delayMs`; the result cancels it. */
  schedule(delayMs: number, callback: () => void): () => void;
}

/** The real time. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
