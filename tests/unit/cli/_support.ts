/** A terminal that keeps what is written to it. */
import { type CliIo, type ExitCode, runCli } from "../../../src/cli/mod.ts";
import { makeProgram } from "../../../src/cli/program.ts";

/** How a run of the command line ended and what it wrote. */
export interface CliRun {
  readonly code: ExitCode;
  readonly out: string;
  readonly err: string;
}

/** Options of {@linkcode run}. */
export interface RunOptions {
  readonly signal?: AbortSignal;
  readonly stdin?: string;
  readonly env?: Record<string, string>;
  /** Columns of the terminal that shows the results; without it they go to a file. */
  readonly columns?: number;
  readonly rows?: number;
  /** Called with everything written so far after every write. */
  readonly onOut?: (out: string) => void;
  /** The same for what is written to standard error. */
  readonly onErr?: (err: string) => void;
}

/** The command line, which says and does nothing. */
export function programOf(): ReturnType<typeof makeProgram> {
  const io: CliIo = {
    out() {},
    err() {},
    isTerminal: false,
    columns: 100,
    signal: new AbortController().signal,
    env: () => undefined,
    stdin: () => Promise.resolve(""),
  };
  return makeProgram({ io, exitWith() {} });
}

/** Names of all commands. */
export function commandNames(): string[] {
  return programOf().commands.map((command) => command.name());
}

/** Runs the command line. */
export async function run(args: readonly string[], options: RunOptions = {}): Promise<CliRun> {
  let out = "";
  let err = "";
  const io: CliIo = {
    out(text) {
      out += text;
      options.onOut?.(out);
    },
    err(text) {
      err += text;
      options.onErr?.(err);
    },
    isTerminal: false,
    isOutTerminal: options.columns !== undefined,
    columns: options.columns ?? 100,
    rows: options.rows ?? 24,
    signal: options.signal ?? new AbortController().signal,
    env: (name) => options.env?.[name],
    stdin: () => Promise.resolve(options.stdin ?? ""),
  };
  const code = await runCli(args, io);
  return { code, out, err };
}

/** The lines of a text as JSON. */
export function jsonLines<T = Record<string, unknown>>(text: string): T[] {
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}
