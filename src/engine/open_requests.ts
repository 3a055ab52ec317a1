import { ValidationError } from "../errors.ts";
import { orAborted } from "../internal/or_aborted.ts";
import { Semaphore } from "../internal/semaphore.ts";
import type { OpenCall } from "./generate_call.ts";
import type { PlannedRequest } from "./generate_plan.ts";

/** A request between its turn and its answer. */
export interface OpenRequest extends Disposable {
  readonly planned: PlannedRequest;
  /** Fires when it has to end; the reason is the error, none where it was dropped. */
  readonly signal: AbortSignal;
  /** Ends it with an error. */
  readonly end: (error: unknown) => void;
  /** Ends the request without an answer of the server: its samples are empty and aborted. */
  readonly drop: () => void;
  isDropped: boolean;
  /** Resolves when the call has its answer or its error. */
  readonly ended: Promise<void>;
  isSent: boolean;
}

/** The requests that were begun: those that wait for their turn, and those that the servers have. */
export class OpenRequests {
  readonly #gate: Semaphore;
  readonly #open = new Map<string, OpenRequest>();
  /** Ids that callers gave for prompts of calls under way. */
  readonly #reserved = new Set<string>();
  #unsent = 0;

  /** @param most How many the servers may have at once. */
  constructor(most: number) {
    this.#gate = new Semaphore(most);
  }

  /** Changes how many the servers may have at once. */
  set most(limit: number) {
    this.#gate.limit = limit;
  }

  /** How many the servers have. */
  get inFlight(): number {
    return this.#gate.inside;
  }

  /** How many wait for their turn. */
  get unsent(): number {
    return this.#unsent;
  }

  /** Those that go by one of these ids, themselves or as a part. */
  named(rids: ReadonlySet<string> | "all"): OpenRequest[] {
    return [...this.#open.values()].filter(({ planned: { request, partOf } }) =>
      rids === "all" || rids.has(request.rid) || (partOf !== undefined && rids.has(partOf))
    );
  }

  /** Keeps the ids that a caller gave for its prompts. */
  reserve(rids: ReadonlySet<string> = new Set()): Disposable {
    for (const rid of rids) {
      if (this.#open.has(rid) || this.#reserved.has(rid)) {
        throw new ValidationError(`Request id "${rid}" is in use`);
      }
    }
    for (const rid of rids) this.#reserved.add(rid);
    return {
      [Symbol.dispose]: () => {
        for (const rid of rids) this.#reserved.delete(rid);
      },
    };
  }

  /** Adds a request of a call; disposing takes it out. */
  register(planned: PlannedRequest, call: OpenCall): OpenRequest {
    const { rid } = planned.request;
    if (this.#open.has(rid)) throw new ValidationError(`Request id "${rid}" is in use`);
    const controller = new AbortController();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const end = (error: unknown) => controller.abort(error);
    this.#unsent++;
    const open: OpenRequest = {
      planned,
      signal: controller.signal,
      end,
      ended,
      drop: () => {
        // What was dropped or ended before stays so.
        if (controller.signal.aborted) return;
        open.isDropped = true;
        controller.abort();
      },
      isDropped: false,
      isSent: false,
      [Symbol.dispose]: () => {
        if (!open.isSent) this.#unsent--;
        call.ends.delete(end);
        this.#open.delete(rid);
        resolve();
      },
    };
    call.ends.add(end);
    if (call.signal.aborted) end(call.signal.reason);
    this.#open.set(rid, open);
    return open;
  }

  /**
   * Waits for its call's place in the line, then for a turn; `undefined` when the request was
   * aborted meanwhile. `leaves` the line with its turn.
   */
  async enter(
    open: OpenRequest,
    place: Promise<Disposable>,
    leaves: boolean,
  ): Promise<Disposable | undefined> {
    const { signal } = open;
    try {
      signal.throwIfAborted();
      await orAborted(place, signal);
      const permit = await this.#gate.acquire(signal);
      open.isSent = true;
      this.#unsent--;
      return permit;
    } catch (error) {
      if (open.isDropped) return undefined;
      throw signal.aborted ? signal.reason : error;
    } finally {
      // Also where the place came in the moment in which the request ended.
      if (leaves) place.then((one) => one[Symbol.dispose](), () => {});
    }
  }
}
