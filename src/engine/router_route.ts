import type { SGLangClient } from "../client/client.ts";
import { HttpError, UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import { messageOf } from "../internal/thrown.ts";

/** Pauses between looks whether a router that is gone is back. */
const FIRST_LOOK_MS = 1_000;
const LONGEST_LOOK_MS = 30_000;
const LOOK_TIMEOUT_MS = 5_000;

/** The router is gone, or back. */
export interface RouterEvent {
  /** Address of the router. */
  readonly url: string;
  /** `gone`: requests go to the servers directly; `back`: they go through the router again. */
  readonly to: "gone" | "back";
  /** Why. */
  readonly reason: string;
}

/**
 * The way through the router. When nothing listens there any more it is closed, and opens again when
 * the router answers: it is looked for with growing pauses.
 */
export class RouterRoute implements Disposable {
  readonly #router: SGLangClient;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #listeners = new Set<(event: RouterEvent) => void>();
  readonly #closing = new AbortController();
  #isGone = false;
  #cancelLook: (() => void) | undefined;

  constructor(router: SGLangClient, options: { readonly clock: Clock; readonly logger: Logger }) {
    this.#router = router;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** The router; `undefined` while it is gone. */
  get client(): SGLangClient | undefined {
    return this.#isGone ? undefined : this.#router;
  }

  /** Calls `listener` when the router goes and when it is back, until disposed. */
  listen(listener: (event: RouterEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /**
   * Takes note of an error of the router; tells whether no server answered the request, so that it may
   * go to one directly. Who serves is known better here.
   */
  isWithoutAnswer(error: unknown): boolean {
    if (error instanceof HttpError) return isOfLostWorkers(error);
    if (!(error instanceof UnreachableError) || error.reason !== "refused") return false;
    if (this.#isGone || this.#closing.signal.aborted) return true;
    this.#isGone = true;
    this.#logger.warn(`${error.message}. Requests go to the servers directly until it is back`);
    this.#tell("gone", error.message);
    this.#lookIn(FIRST_LOOK_MS);
    return true;
  }

  /** Looks now whether it is back: somebody started it again. */
  lookNow(): void {
    if (!this.#isGone || this.#closing.signal.aborted) return;
    this.#cancelLook?.();
    void this.#look(FIRST_LOOK_MS);
  }

  /** Looks no more. */
  [Symbol.dispose](): void {
    this.#closing.abort();
    this.#cancelLook?.();
  }

  #lookIn(pauseMs: number): void {
    this.#cancelLook = this.#clock.schedule(pauseMs, () => void this.#look(pauseMs));
  }

  async #look(pauseMs: number): Promise<void> {
    const { signal } = this.#closing;
    try {
      await this.#router.checkHealth({ signal, timeoutMs: LOOK_TIMEOUT_MS });
    } catch (error) {
      if (signal.aborted) return;
      this.#logger.debug(`The router is still gone: ${messageOf(error)}`);
      this.#lookIn(Math.min(LONGEST_LOOK_MS, 2 * pauseMs));
      return;
    }
    if (signal.aborted) return;
    this.#isGone = false;
    const reason = `The router ${this.#router.url} answers again`;
    this.#logger.warn(`${reason}. Requests go through it`);
    this.#tell("back", reason);
  }

  #tell(to: RouterEvent["to"], reason: string): void {
    for (const listener of this.#listeners) {
      try {
        listener({ url: this.#router.url, to, reason });
      } catch (error) {
        this.#logger.error(`A listener of router events threw: ${messageOf(error)}`);
      }
    }
  }
}

/**
 * Whether the router (0.3.2) says that its servers are gone: it takes every one for dead, as for a
 * while after one died, or those that it tried did not answer.
 */
function isOfLostWorkers({ status, message }: HttpError): boolean {
  if (status === 503) return /no (?:available|healthy) workers/i.test(message);
  return status === 500 && /error sending request for url/i.test(message);
}
