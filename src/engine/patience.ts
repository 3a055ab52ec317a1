import { UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";

/** Breaks of a request under way: one that ends whoever takes it must not end all of them. */
const MOST_BREAKS = 8;

/** What a request's patience depends on. */
export interface PatienceOptions {
  /** Longest wait while nobody listens. */
  readonly servingTimeoutMs: number;
  /** Whether servers come back. */
  readonly isHealing: () => boolean;
  readonly clock: Clock;
}

/**
 * How often a request is sent again. A connection that breaks under way counts, as the request may be
 * what broke it. That nobody listens says nothing of the request: while servers are brought back they
 * are waited for, as long as for servers that wait for their weights.
 */
export class Patience {
  readonly #options: PatienceOptions;
  #breaks = 0;
  #refusedSinceMs: number | undefined;

  constructor(options: PatienceOptions) {
    this.#options = options;
  }

  /** Whether the request may be sent again after this. */
  allows(error: unknown): boolean {
    const { clock, servingTimeoutMs, isHealing } = this.#options;
    const isRefused = error instanceof UnreachableError && error.reason === "refused";
    if (!isRefused || !isHealing()) return this.#breaks++ < MOST_BREAKS;
    this.#refusedSinceMs ??= clock.now();
    return clock.now() - this.#refusedSinceMs < servingTimeoutMs;
  }

  /** Something was answered: what was before counts no more. */
  renew(): void {
    this.#breaks = 0;
    this.#refusedSinceMs = undefined;
  }
}
