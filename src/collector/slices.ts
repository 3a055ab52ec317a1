import { setImmediate } from "node:timers";
import type { Clock } from "../internal/clock.ts";

/** Longest time that dialogs work before others get their turn. */
const SLICE_MS = 8;
/** Dialogs that go on at once whatever they take; the first slice is of so many. */
const FIRST = 16;
/** Most of a slice: of work that seems to take no time the next may take more. */
const MOST = 1024;

/**
 * Lets dialogs go on some at a time. When thousands may go on in one moment, as at the start of a run
 * or when a batch was taken, all of them would prepare their prompts before anything else had its
 * turn: control calls, answers that came, timers.
 */
export class Slices {
  readonly #clock: Pick<Clock, "now">;
  /** Dialogs that went on in this moment. */
  #count = 0;
  readonly #waiting: (() => void)[] = [];
  /** Of {@linkcode Slices.#waiting}, those that went on. */
  #gone = 0;
  #size = FIRST;

  /** Makes it; `clock` tells how long dialogs take. */
  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  /** Resolves when it is a dialog's turn: at once, unless many others went on in the same moment. */
  turn(): Promise<void> {
    if (this.#waiting.length === 0 && this.#count < FIRST) {
      // A moment ends when all have asked who were let through together.
      if (this.#count++ === 0) queueMicrotask(() => this.#count = 0);
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      if (this.#waiting.push(resolve) === 1) this.#slice(FIRST);
    });
  }

  /** The next slice comes after all that `count` dialogs do before they wait for something outside. */
  #slice(count: number): void {
    const beganMs = this.#clock.now();
    setImmediate(() => {
      const tookMs = Math.max(this.#clock.now() - beganMs, 0.1);
      // At most twice as many as before: one slice says little.
      const fitting = Math.min(Math.floor(count * SLICE_MS / tookMs), 2 * this.#size, MOST);
      this.#size = Math.max(1, fitting);
      const end = Math.min(this.#gone + this.#size, this.#waiting.length);
      const started = end - this.#gone;
      while (this.#gone < end) this.#waiting[this.#gone++]!();
      if (this.#gone < this.#waiting.length) return this.#slice(started);
      this.#waiting.length = 0;
      this.#gone = 0;
      this.#size = FIRST;
    });
  }
}
