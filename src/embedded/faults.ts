/** Misbehaviour on request. */
import { sleep } from "../internal/deadline.ts";

/** How an embedded server misbehaves. Unset fields mean good behaviour. */
export interface Faults {
  /** Wait this long before each answer, in milliseconds. */
  readonly latencyMs?: number | undefined;
  /** Wait this long before each step of generation, in milliseconds: a slow model. */
  readonly stepLatencyMs?: number | undefined;
  /** Answer 503 to this many `/generate` calls; `Infinity` for all. */
  readonly unavailable?: number | undefined;
  /** Break the connection of this many `/generate` calls in the middle of the answer. */
  readonly dropConnections?: number | undefined;
  /** Leave one log-probability out of this many answers. */
  readonly wrongLogProbCounts?: number | undefined;
  /** Make no tokens: requests hang until this is set to `false`. */
  readonly stalled?: boolean | undefined;
  /** Set `stalled` when this many more tokens have been made: a hang in the middle of a request. */
  readonly stallAfterTokens?: number | undefined;
  /** Crash when this many more tokens have been made. */
  readonly crashAfterTokens?: number | undefined;
  /** Answer 400 to this many weight updates, without taking the weights. */
  readonly refuseUpdates?: number | undefined;
  /**
   * Load weight updates wrongly and say that all is well, until this is set to `undefined`: `"skip"`
   * keeps the old weights, `"flip"` turns a bit of each tensor's first value, `"swap"` exchanges
   * tensors of one size.
   */
  readonly misloadUpdates?: Misload | undefined;
}

/** How weights are loaded wrongly. */
export type Misload = "skip" | "flip" | "swap";

type Counted = "unavailable" | "dropConnections" | "wrongLogProbCounts" | "refuseUpdates";

/** The faults that are left to show. */
export class FaultInjector {
  #faults: Faults;
  #moved = Promise.withResolvers<void>();

  constructor(faults: Faults) {
    this.#faults = { ...faults };
  }

  /** What is set now; counts are what is left. */
  get current(): Faults {
    return { ...this.#faults };
  }

  /** Changes the fields given. */
  set(faults: Faults): void {
    this.#faults = { ...this.#faults, ...faults };
    const { resolve } = this.#moved;
    this.#moved = Promise.withResolvers();
    resolve();
  }

  /** Uses up one of a counted fault; `true` when it is to be shown. */
  take(fault: Counted): boolean {
    const left = this.#faults[fault] ?? 0;
    if (left <= 0) return false;
    this.#faults = { ...this.#faults, [fault]: left - 1 };
    return true;
  }

  /** Waits as `latencyMs` says. */
  async delay(): Promise<void> {
    const { latencyMs = 0 } = this.#faults;
    if (latencyMs > 0) await sleep(latencyMs, { phase: "latency fault" });
  }

  /** Waits while stalled and as `stepLatencyMs` says; `undefined` when there is nothing to do. */
  beforeStep(): Promise<void> | undefined {
    const { stepLatencyMs = 0, stalled = false } = this.#faults;
    if (stalled) return this.#moved.promise;
    return stepLatencyMs > 0 ? sleep(stepLatencyMs, { phase: "slow model fault" }) : undefined;
  }

  /** Whether the server is due to crash, having made `tokens` tokens since this was asked last. */
  countTokens(tokens: number): boolean {
    const { stallAfterTokens, crashAfterTokens } = this.#faults;
    if (stallAfterTokens !== undefined) {
      const isDue = stallAfterTokens <= tokens;
      this.set(
        isDue
          ? { stalled: true, stallAfterTokens: undefined }
          : { stallAfterTokens: stallAfterTokens - tokens },
      );
    }
    if (crashAfterTokens === undefined) return false;
    this.#faults = { ...this.#faults, crashAfterTokens: crashAfterTokens - tokens };
    return crashAfterTokens - tokens <= 0;
  }
}
