/** The steps of a sync, in order. */
export type SyncPhase =
  | "probe"
  | "source"
  | "check"
  | "init"
  | "stage"
  | "pause"
  | "drain"
  | "flush"
  | "mark"
  | "begin"
  | "update"
  | "end"
  | "synchronise"
  | "verify"
  | "version"
  | "resume"
  | "recover";

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
