import { AbortedError } from "../errors.ts";

/** What a place asks of the {@linkcode Gate}: to begin a dialog or to take one more turn. */
export interface TurnRequest {
  /** Index of the environment. */
  readonly environment: number;
  /** Whether a new dialog would begin. */
  readonly begins: boolean;
}

interface Entry {
  readonly request: TurnRequest;
  pass(): void;
  refuse(error: Error): void;
}

/**
 * Holds places back while their work is not wanted. Whoever changes what is wanted calls
 * {@linkcode Gate.update}; everybody who waits is then asked again, first come first served.
 */
export class Gate {
  readonly #mayPass: (request: TurnRequest) => boolean;
  #closed: AbortedError | null = null;
  readonly #waiting = new Set<Entry>();

  /** Makes a gate; `mayPass` also books the request when it answers yes. */
  constructor(mayPass: (request: TurnRequest) => boolean) {
    this.#mayPass = mayPass;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** How many wait to take a further turn of a dialog. */
  get waitingTurns(): number {
    let count = 0;
    for (const { request } of this.#waiting) if (!request.begins) count++;
    return count;
  }

  /** Waits until the request is wanted; rejects when the gate closes or the signal fires. */
  pass(request: TurnRequest, signal?: AbortSignal): Promise<void> {
    if (this.#closed !== null) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(new AbortedError("gate", { cause: signal.reason }));
    if (this.#waiting.size === 0 && this.#mayPass(request)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const leave = () => signal?.removeEventListener("abort", onAbort);
      const entry: Entry = {
        request,
        pass: () => {
          leave();
          resolve();
        },
        refuse: (error) => {
          leave();
          reject(error);
        },
      };
      const onAbort = () => {
        this.#waiting.delete(entry);
        reject(new AbortedError("gate", { cause: signal?.reason }));
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiting.add(entry);
      this.update();
    });
  }

  /** Turns away all who wait and all who come later. */
  close(reason: unknown): void {
    this.#closed = new AbortedError("gate", { cause: reason });
    for (const entry of this.#waiting) entry.refuse(this.#closed);
    this.#waiting.clear();
  }

  /** Asks again for everybody who waits. */
  update(): void {
    for (const entry of this.#waiting) {
      if (!this.#mayPass(entry.request)) continue;
      this.#waiting.delete(entry);
      entry.pass();
    }
  }
}
