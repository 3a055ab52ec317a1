import type { Clock } from "../internal/clock.ts";
import { sleep } from "../internal/deadline.ts";

/** What is being done for a server or a router; a change of its state ends it, and its pauses. */
export class PresentWork {
  #work = new AbortController();
  /** Ends the present wait; there is at most one. */
  #wake = () => {};

  /** Fires when what is being done has lost its sense. */
  get signal(): AbortSignal {
    return this.#work.signal;
  }

  /** Waits until something happens. */
  async woken(): Promise<void> {
    await new Promise<void>((resolve) => this.#wake = resolve);
  }

  /** Waits until something happens, at most so long. Nothing is left of it, so there may be millions. */
  async pause(delayMs: number, clock: Clock): Promise<void> {
    const over = new AbortController();
    this.#wake = () => over.abort();
    await sleep(delayMs, { signal: over.signal, clock }).catch(() => {});
  }

  /** Ends the present wait, if there is one. */
  wake(): void {
    this.#wake();
  }

  /** Ends the present work: the state that it was for is over. */
  interrupt(why: unknown): void {
    this.#work.abort(why);
    this.#work = new AbortController();
    this.wake();
  }
}
