import type { OptionNames } from "../internal/option_names.ts";

/** What to run, and how. */
export interface ProcessTreeOptions {
  /** Program and arguments. */
  readonly command: readonly string[];
  /** What the process is called in messages. Default its program. */
  readonly name?: string | undefined;
  /** Python 3.8 or later that runs the keeper. Default `"python3"`. */
  readonly keeperPython?: string | undefined;
  /** Variables to set, or to unset with `null`; the rest is inherited. */
  readonly env?: Readonly<Record<string, string | null>> | undefined;
  /** Folders to put in front of `PATH`. */
  readonly prependPath?: readonly string[] | undefined;
  /** Working folder. Default ours. */
  readonly cwd?: string | undefined;
  /**
   * File to append every line to; the keeper writes it, so Deno needs no permission. Default a
   * temporary file, which stays only when the process ends by itself with an error.
   */
  readonly logFile?: string | undefined;
  /**
   * Text on standard input, then its end; at most 60,000 bytes. For what must not be in the list of
   * processes. Default nothing.
   */
  readonly input?: string | undefined;
  /** Called with every line of standard output and standard error. */
  readonly onLine?: ((line: string) => void) | undefined;
  /** Texts to replace by `***` in every line, such as API keys. */
  readonly secrets?: readonly string[] | undefined;
  /** Lines kept in memory. Default 200. */
  readonly tailLines?: number | undefined;
  /** What `ProcessTree.stop` waits after SIGTERM, in milliseconds. Default 10,000. */
  readonly stopGraceMs?: number | undefined;
  /** The same, when this Deno process is gone. Default 2,000. */
  readonly orphanGraceMs?: number | undefined;
  /** Stops the tree when it fires, at any time. */
  readonly signal?: AbortSignal | undefined;
}

/** Names of {@linkcode ProcessTreeOptions}. */
export const PROCESS_OPTION_NAMES = {
  command: true,
  name: true,
  keeperPython: true,
  env: true,
  prependPath: true,
  cwd: true,
  logFile: true,
  input: true,
  onLine: true,
  secrets: true,
  tailLines: true,
  stopGraceMs: true,
  orphanGraceMs: true,
  signal: true,
} as const satisfies OptionNames<ProcessTreeOptions>;

/** How a process ended. */
export interface ProcessExit {
  /** Exit code, or `null` when a signal ended it. */
  readonly exitCode: number | null;
  /** Signal that ended it, such as `"SIGKILL"`, or `null`. */
  readonly signal: string | null;
  /** Whether it was told to end, by `stop` or by a signal to its keeper. */
  readonly requested: boolean;
  /** Its last lines. */
  readonly logTail: string;
  /** The log file, when it was kept. */
  readonly logFile: string | null;
  /** Processes that even SIGKILL did not end within 10 seconds (stuck in the kernel). */
  readonly stuckPids: readonly number[];
}
