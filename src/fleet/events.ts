import type { ServerState } from "./transitions.ts";

/** Something happened in a supervised fleet. */
export interface FleetEvent {
  /** When, as milliseconds since 1970. */
  readonly at: number;
  /** Address of the server, or of the router that is supervised with them. */
  readonly url: string;
  /**
   * - `state`: it went from one state to another.
   * - `refit_failed`: it could not be given the fleet's weights; it is tried again.
   * - `waits`: there is nothing to refit it with: it waits for the next sync.
   * - `below_minimum`: fewer servers than `minHealthy` are healthy.
   */
  readonly kind: "state" | "refit_failed" | "waits" | "below_minimum";
  /** Where it stood; `null` for a server that is new. */
  readonly from: ServerState | null;
  /** Where it stands. */
  readonly to: ServerState;
  /** Why, in words. */
  readonly reason: string;
}

/** Events that a reader who is slow may be behind; older ones are left out. */
const LIMIT = 1000;

/** Hands every event to every reader; a reader that is slow loses the oldest. */
export class FleetEvents {
  readonly #readers = new Set<{ queue: FleetEvent[]; wake: () => void }>();
  #isClosed = false;

  /** Whether nobody reads. */
  get isUnread(): boolean {
    return this.#readers.size === 0;
  }

  /** Hands out an event. */
  push(event: FleetEvent): void {
    for (const { queue, wake } of this.#readers) {
      queue.push(event);
      if (queue.length > LIMIT) queue.shift();
      wake();
    }
  }

  /** No more events: readers end after what they have. */
  close(): void {
    this.#isClosed = true;
    for (const { wake } of this.#readers) wake();
  }

  /** Events from now on, to the end of the supervision or until the signal fires. */
  read(signal?: AbortSignal): AsyncIterableIterator<FleetEvent> {
    let pending = Promise.withResolvers<void>();
    const reader = { queue: [] as FleetEvent[], wake: () => pending.resolve() };
    // From the call on, not from the first step of the loop.
    this.#readers.add(reader);
    signal?.addEventListener("abort", reader.wake, { once: true });
    const isOver = () => this.#isClosed || signal?.aborted === true;
    const leave = () => {
      this.#readers.delete(reader);
      signal?.removeEventListener("abort", reader.wake);
    };
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      async next() {
        for (;;) {
          const event = reader.queue.shift();
          if (event !== undefined && signal?.aborted !== true) return { done: false, value: event };
          if (isOver()) {
            leave();
            return { done: true, value: undefined };
          }
          await pending.promise;
          pending = Promise.withResolvers();
        }
      },
      return() {
        leave();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }
}
