import { type Clock, systemClock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import type { OnProgress, SyncPhase } from "./progress.ts";

/** Keeps track of where a sync is, tells it on, and times the steps. */
export class Steps {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onProgress: OnProgress | undefined;
  readonly #startedAt: number;
  readonly #durationsMs = new Map<SyncPhase, number>();
  #phase: SyncPhase = "probe";
  #message = "probe the servers";
  #bytesDone = 0;
  #bytesTotal = 0;

  /** Starts the time. */
  constructor(options: { logger: Logger; onProgress?: OnProgress | undefined; clock?: Clock }) {
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger;
    this.#onProgress = options.onProgress;
    this.#startedAt = this.#clock.now();
  }

  /** The step that runs, in words. */
  get message(): string {
    return this.#message;
  }

  /** The step that runs. */
  get phase(): SyncPhase {
    return this.#phase;
  }

  /** Milliseconds since the start. */
  get elapsedMs(): number {
    return this.#clock.now() - this.#startedAt;
  }

  /** How long each step took, in milliseconds. */
  get durationsMs(): Readonly<Partial<Record<SyncPhase, number>>> {
    return Object.fromEntries([...this.#durationsMs].map(([k, v]) => [k, Math.round(v)]));
  }

  /** Sets how many bytes there are. */
  setTotal(bytes: number): void {
    this.#bytesTotal = bytes;
  }

  /** Counts bytes that every server has taken in. */
  addBytes(bytes: number): void {
    this.#bytesDone += bytes;
    this.#tell();
  }

  /** Runs a step under its name. */
  async run<T>(phase: SyncPhase, message: string, work: () => Promise<T>): Promise<T> {
    this.#phase = phase;
    this.#message = message;
    const from = this.#clock.now();
    this.#logger.debug(`Weight sync: ${message}`);
    this.#tell();
    try {
      return await work();
    } finally {
      const before = this.#durationsMs.get(phase) ?? 0;
      this.#durationsMs.set(phase, before + this.#clock.now() - from);
    }
  }

  #tell(): void {
    if (this.#onProgress === undefined) return;
    try {
      this.#onProgress({
        phase: this.#phase,
        message: this.#message,
        bytesDone: this.#bytesDone,
        bytesTotal: this.#bytesTotal,
        elapsedMs: this.elapsedMs,
      });
    } catch (error) {
      // A display must not decide whether a fleet gets its weights.
      this.#logger.warn(`onProgress threw: ${error}`);
    }
  }
}
