import type { Clock } from "../internal/clock.ts";

/** How often a trainer that waits is told that this side lives. */
const PING_MS = 1000;

/** Signs of life for a trainer that waits; none is sent before the last one is out. */
export class Pings {
  readonly #clock: Clock;
  readonly #send: () => Promise<void>;
  #cancel = () => {};
  #isOut = true;

  /** `send` sends one. */
  constructor(clock: Clock, send: () => Promise<void>) {
    this.#clock = clock;
    this.#send = send;
  }

  /** Begins; ends with {@linkcode Pings.stop}. */
  start(): void {
    this.#isOut = true;
    this.#cancel = this.#clock.schedule(PING_MS, this.#ping);
  }

  /** Ends. */
  stop(): void {
    this.#cancel();
  }

  readonly #ping = (): void => {
    if (this.#isOut) {
      this.#isOut = false;
      this.#send().then(() => this.#isOut = true, () => {});
    }
    this.#cancel = this.#clock.schedule(PING_MS, this.#ping);
  };
}
