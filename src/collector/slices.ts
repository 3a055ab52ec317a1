import { setImmediate } from "node:timers";
import type { Clock } from "../internal/clock.ts";

/** Longest time that dialogs work before others get their turn. */
const SLICE_MS = 8;
/** Dialogs that go on at once before it is known how long they take. */
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
  readonly #waiting: (() => void)[] = [];
  /** Of {@linkcode Slices.#waiting}, those that went on. */
  #gone = 0;
  #size = FIRST;
  /** Dialogs that went on since the slice began. */
  #count = 0;
  #beganMs: number | undefined;

  /** Makes it; `clock` tells how long dialogs take. */
  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  /** Resolves when it is a dialog's turn: at once, unless many others went on just now. */
  turn(): Promise<void> {
    this.#begin();
    if (this.#count < this.#size && this.#gone === this.#waiting.length) {
      this.#count++;
      return Promise.resolve();
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #begin(): void {
    if (this.#beganMs !== undefined) return;
    this.#beganMs = this.#clock.now();
    // After all that those who went on do before they wait for something outside.
    setImmediate(() => this.#end());
  }

  #end(): void {
    const isFull = this.#count >= this.#size;
    const tookMs = Math.max(this.#clock.now() - this.#beganMs!, 0.1);
    this.#beganMs = undefined;
    // At most twice as many as before: one slice says little.
    const fitting = Math.min(Math.floor(this.#count * SLICE_MS / tookMs), 2 * this.#size, MOST);
    if (isFull || tookMs > SLICE_MS) this.#size = Math.max(1, fitting);
    this.#count = 0;
    if (this.#gone === this.#waiting.length) return;
    this.#begin();
    while (this.#count < this.#size && this.#gone < this.#waiting.length) {
      this.#count++;
      this.#waiting[this.#gone++]!();
    }
    if (this.#gone < this.#waiting.length) return;
    this.#waiting.length = 0;
    this.#gone = 0;
  }
}
