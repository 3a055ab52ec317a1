import type { Logger } from "../internal/logger.ts";
import { messageOf } from "../internal/thrown.ts";

/** Calls of the router's own interface about servers: one after the other for each server. */
export class RouterCalls {
  readonly #logger: Logger;
  readonly #last = new Map<string, Promise<unknown>>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /**
   * Makes a call when those before it about this server have ended. A router that fails is told of, and
   * its error given.
   *
   * @param what What the router shall do, such as "take in".
   */
  run(url: string, what: string, call: () => Promise<void>): Promise<unknown> {
    const before = this.#last.get(url) ?? Promise.resolve();
    const next = before.then(async () => {
      try {
        await call();
      } catch (error) {
        this.#logger.warn(`The router did not ${what} ${url}: ${messageOf(error)}`);
        return error;
      }
    }).finally(() => {
      if (this.#last.get(url) === next) this.#last.delete(url);
    });
    this.#last.set(url, next);
    return next;
  }
}
