import { setImmediate } from "node:timers/promises";
import type { Generation } from "../client/types.ts";
import { PartialResultError } from "../errors.ts";
import { systemClock } from "../internal/clock.ts";
import { asError } from "../internal/thrown.ts";
import type { GenerateOptions } from "./engine.ts";
import type { GeneratePlan, PlannedRequest } from "./generate_plan.ts";

/** Longest time that a call prepares requests before others get their turn. */
const SLICE_MS = 8;

/** What becomes of a request that a call has begun. */
export interface BegunRequest {
  /** Resolves, never rejects, when the request is under way or over: the next may be prepared. */
  readonly entered: Promise<void>;
  /** Its samples. */
  readonly samples: Promise<Generation[]>;
}

/** How a call does its work. */
export interface GenerateCallOptions {
  readonly plan: GeneratePlan;
  /** Begins the request of a prompt. */
  readonly begin: (planned: PlannedRequest) => BegunRequest;
  /** The samples of a prompt that was aborted before it was sent. */
  readonly dropped: (planned: PlannedRequest) => Generation[];
  /** Whether an error is of one prompt, and says nothing about the others. */
  readonly isOfOnePrompt: (error: unknown) => boolean;
  readonly onProgress: GenerateOptions["onProgress"];
}

/** A call under way, and how it is ended. One of a stream has nothing that is not begun. */
export class OpenCall {
  /** Ends of the requests that are under way. */
  readonly ends = new Set<(error: unknown) => void>();
  readonly #stop = new AbortController();

  /** Prompts that were not begun. */
  get left(): number {
    return 0;
  }

  /** Fires when the call has to end, with the error to throw as its reason. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Ends it: what is under way and what is left. */
  end(error: unknown): void {
    if (this.signal.aborted) return;
    this.#stop.abort(error);
    for (const end of this.ends) end(error);
  }

  /** Prompts that were not begun, of these ids or all, become empty samples. */
  drop(_rids: "all" | ReadonlySet<string>): void {}
}

/**
 * A call of `generate` under way. Requests are made as their turn comes, so that a call of any
 * number of prompts holds what is in flight, and what has come.
 */
export class GenerateCall extends OpenCall {
  readonly #options: GenerateCallOptions;
  readonly #dropped = new Set<string>();
  #dropsAll = false;
  #next = 0;

  /** Describes it; nothing happens before `run`. */
  constructor(options: GenerateCallOptions) {
    super();
    this.#options = options;
  }

  override get left(): number {
    return this.signal.aborted ? 0 : this.#options.plan.total - this.#next;
  }

  override drop(rids: "all" | ReadonlySet<string>): void {
    if (rids === "all") this.#dropsAll = true;
    else if (this.#options.plan.rids !== undefined) {
      for (const rid of rids) this.#dropped.add(rid);
    }
  }

  /**
   * Sends everything; samples come in the order of the prompts.
   *
   * @param onAllBegun Called when the last prompt has its turn.
   */
  async run(onAllBegun: () => Promise<void>): Promise<Generation[]> {
    const { plan, onProgress, isOfOnePrompt } = this.#options;
    const { total } = plan;
    const results = new Array<Generation[] | undefined>(total).fill(undefined);
    const failures: { row: number; error: Error }[] = [];
    const settled = Promise.withResolvers<void>();
    let open = 1;
    let done = 0;
    const leave = () => --open === 0 && settled.resolve();
    const take = async (row: number, samples: Promise<Generation[]>) => {
      try {
        results[row] = await samples;
        onProgress?.({ done: ++done, total });
      } catch (error) {
        // A prompt that a server refuses says nothing about the others; any other error does.
        if (total === 1 || !isOfOnePrompt(error)) this.end(error);
        failures.push({ row, error: asError(error) });
      } finally {
        leave();
      }
    };
    try {
      await this.#beginAll((row, samples) => {
        open++;
        void take(row, samples);
      });
      if (!this.signal.aborted) await onAllBegun();
    } catch (error) {
      this.end(error);
    }
    leave();
    await settled.promise;
    if (this.signal.aborted) throw this.signal.reason;
    return outcome(results, failures);
  }

  async #beginAll(take: (row: number, samples: Promise<Generation[]>) => void): Promise<void> {
    const { plan, begin, dropped } = this.#options;
    let since = systemClock.now();
    while (this.left > 0) {
      const row = this.#next++;
      const planned = plan.request(row);
      if (this.#dropsAll || this.#dropped.has(planned.request.rid)) {
        take(row, Promise.resolve(dropped(planned)));
      } else {
        const { entered, samples } = begin(planned);
        take(row, samples);
        await entered;
      }
      if (systemClock.now() - since < SLICE_MS || this.left === 0) continue;
      await setImmediate();
      since = systemClock.now();
    }
  }
}

function outcome(
  results: readonly (Generation[] | undefined)[],
  failures: { row: number; error: Error }[],
): Generation[] {
  failures.sort((a, b) => a.row - b.row);
  if (failures.length === results.length && failures.length > 0) throw failures[0]!.error;
  const samples: Generation[] = [];
  for (const some of results) for (const one of some ?? []) samples.push(one);
  if (failures.length === 0) return samples;
  const rows = [...results.keys()].filter((row) => results[row] !== undefined);
  throw new PartialResultError({ failures, rows, partial: samples });
}
