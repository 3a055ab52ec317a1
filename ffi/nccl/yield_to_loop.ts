import { setImmediate } from "node:timers";

/** Lets the thread's other messages come in. A timer, even of 0 ms, would take 2 ms. */
export function yieldToLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
