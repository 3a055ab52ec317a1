import type { Clock } from "../internal/clock.ts";
import { sleep } from "../internal/deadline.ts";

/** What is being done for a server or a router; a change of its state ends it, and its pauses. */
export class PresentWork {
  #wake = Promise.withResolvers<void>();
  #work = new AbortController();

  /** Fires when what is being done has lost its sense. */
  get signal(): AbortSignal {
    return this.#work.signal;
  }

  /** Resolves when something happened since the last call. */
  async woken(): Promise<void> {
    await this.#wake.promise;
    this.#wake = Promise.withResolvers();
  }

  /** Waits until something happens, at most so long. */
  async pause(delayMs: number, clock: Clock): Promise<void> {
    const over = new AbortController();
    const wait = sleep(delayMs, { signal: over.signal, clock }).catch(() => {});
    await Promise.race([wait, this.woken()]);
    over.abort();
  }

  /** Ends the present wait. */
  wake(): void {
    this.#wake.resolve();
  }

  /** Ends the present work: the state that it was for is over. */
  interrupt(why: unknown): void {
    this.#work.abort(why);
    this.#work = new AbortController();
    this.wake();
  }
}
