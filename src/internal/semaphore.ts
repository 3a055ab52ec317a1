import { AbortedError } from "../errors.ts";

/** A first-come, first-served limit on how many may be inside at once. */
export class Semaphore {
  #limit: number;
  #inside = 0;
  readonly #queue = new Set<() => void>();

  /** Makes a limit of `limit` at once; `Infinity` lets everybody in. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Changes the limit; those inside stay. */
  set limit(limit: number) {
    this.#limit = limit;
    while (this.#inside < limit && this.#queue.size > 0) {
      this.#inside++;
      const [next] = this.#queue;
      this.#queue.delete(next!);
      next!();
    }
  }

  /** How many are inside. */
  get inside(): number {
    return this.#inside;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#queue.size;
  }

  /** Waits for a place. The permit gives it back when disposed, once. */
  async acquire(signal?: AbortSignal): Promise<Disposable> {
    if (signal?.aborted) throw new AbortedError("queue", { cause: signal.reason });
    if (this.#inside >= this.#limit) await this.#wait(signal);
    else this.#inside++;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#leave();
      },
    };
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      };
      const onAbort = () => {
        this.#queue.delete(enter);
        reject(new AbortedError("queue", { cause: signal?.reason }));
      };
      this.#queue.add(enter);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  #leave(): void {
    const [next] = this.#queue;
    if (next === undefined || this.#inside > this.#limit) {
      this.#inside--;
      return;
    }
    // The place passes on without becoming free, so that nobody overtakes.
    this.#queue.delete(next);
    next();
  }
}
