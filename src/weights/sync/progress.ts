import type { SyncStep } from "../../errors.ts";
import { type Clock, systemClock } from "../../internal/clock.ts";
import type { Logger } from "../../internal/logger.ts";
import { observed } from "../../internal/observe.ts";

/** The steps of a sync, in order. */
export type SyncPhase = SyncStep;

/** How far a sync is. */
export interface SyncProgress {
  /** The step that runs. */
  readonly phase: SyncPhase;
  /** The step in words, for example `"update bucket 2 of 5"`. */
  readonly message: string;
  /** Bytes of weights that every server has taken in. */
  readonly bytesDone: number;
  /** Bytes of all weights; 0 until they are known. */
  readonly bytesTotal: number;
  /** Milliseconds since the sync began. */
  readonly elapsedMs: number;
}

/** Called as a sync goes on; what it throws is logged and otherwise ignored. */
export type OnProgress = (progress: SyncProgress) => void;

/** A terminal or file that a progress bar is written to; `Deno.stderr` is one. */
export interface ProgressOutput {
  /** Writes bytes. */
  writeSync(bytes: Uint8Array): number;
  /** Whether it is a terminal. */
  isTerminal(): boolean;
}

/**
 * Makes an `onProgress` that keeps one line of a terminal up to date: a bar, bytes, rate and step.
 * It writes nothing where no terminal is attached.
 *
 * @param output Default `Deno.stderr`.
 *
 * @example
 * ```ts
 * import { progressBar } from "@sglang-rl/sglang-rl";
 *
 * // await sender.updateWeights(undefined, { onProgress: progressBar() });
 * const onProgress = progressBar();
 * ```
 */
export function progressBar(output: ProgressOutput = Deno.stderr): OnProgress {
  if (!output.isTerminal()) return () => {};
  const encoder = new TextEncoder();
  return (progress) => {
    const end = progress.phase === "resume" && progress.bytesDone === progress.bytesTotal;
    output.writeSync(encoder.encode(`\r\x1b[K${progressLine(progress)}${end ? "\n" : ""}`));
  };
}

const BAR_WIDTH = 24;

/** The line that {@linkcode progressBar} shows. */
export function progressLine(progress: SyncProgress): string {
  const { bytesDone, bytesTotal, elapsedMs, message } = progress;
  const share = bytesTotal === 0 ? 0 : bytesDone / bytesTotal;
  const filled = Math.round(share * BAR_WIDTH);
  const bar = "#".repeat(filled) + "-".repeat(BAR_WIDTH - filled);
  const seconds = (elapsedMs / 1000).toFixed(1);
  return `[${bar}] ${megabytes(bytesDone)}/${megabytes(bytesTotal)} MB ${seconds} s  ${message}`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

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
      return await observed("sync.step", undefined, { step: phase, message }, work);
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
