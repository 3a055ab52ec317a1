import type { WireRequest } from "./request.ts";
import type { Generation } from "./types.ts";

/**
 * The id under which a request was sent last. A try after the first has one of its own: the server
 * may still run the former one, and refuses an id that is in use ("Duplicate request ID"). It begins
 * with the former one, because servers abort by the beginning of an id: whoever aborts the request
 * by the id that it gave means this try too.
 */
export class SentRid {
  readonly #given: string;
  #rid: string;

  constructor(wire: Pick<WireRequest, "rid">) {
    this.#given = wire.rid;
    this.#rid = wire.rid;
  }

  /** The id that was sent last. */
  get rid(): string {
    return this.#rid;
  }

  /** The id for a try, counted from 0. */
  forAttempt(attempt: number): string {
    return this.#rid = attempt === 0 ? this.#given : `${this.#given}.${attempt}`;
  }

  /** The same sample under the id that the caller knows. */
  named(sample: Generation): Generation {
    return sample.id === this.#rid ? { ...sample, id: this.#given } : sample;
  }
}
