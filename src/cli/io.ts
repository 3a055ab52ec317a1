import { systemCodeOf } from "../internal/exhausted.ts";
import { asPermissionError, grantedEnv } from "../internal/permission.ts";

/** Where the command line reads and writes, so that a test can stand in for the terminal. */
export interface CliIo {
  /**
   * Writes a result.
   *
   * @throws {OutputClosedError} Whoever read the results has gone, as `head` does.
   * @throws {ExhaustedError} The disk that they go to is full.
   */
  readonly out: (text: string) => void;
  /** Writes progress and errors; where nobody can read them any more they are lost. */
  readonly err: (text: string) => void;
  /** Whether somebody watches `err`. */
  readonly isTerminal: boolean;
  /** Whether somebody watches `out`; else it is a file or another program. Default `false`. */
  readonly isOutTerminal?: boolean | undefined;
  /** Columns of the terminal. */
  readonly columns: number;
  /** Rows of the terminal. Default 24. */
  readonly rows?: number | undefined;
  /** Fires at Ctrl-C, SIGTERM and a closed terminal; its reason may be a {@linkcode SignalError}. */
  readonly signal: AbortSignal;
  /** Reads a variable; `undefined` where Deno does not allow it. */
  readonly env: (name: string) => string | undefined;
  /** Reads all of the standard input. */
  readonly stdin: () => Promise<string>;
}

/** Signals that end a command in order. */
export type EndSignal = "SIGINT" | "SIGTERM" | "SIGHUP";

/** A signal came that ends the command. */
export class SignalError extends Error {
  /** Which one. */
  readonly signal: EndSignal;
  /** Makes the error. */
  constructor(signal: EndSignal) {
    super(signal === "SIGINT" ? "interrupted" : `ended by ${signal}`);
    this.name = "SignalError";
    this.signal = signal;
  }
}

/** Nobody reads the results any more. */
export class OutputClosedError extends Error {
  /** Makes the error. */
  constructor(options?: ErrorOptions) {
    super("Nobody reads the output any more", options);
    this.name = "OutputClosedError";
  }
}

/** Number of each signal; a program that one ends has this and 128 as its exit code. */
export const signalNumbers: Readonly<Record<EndSignal, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGTERM: 15,
};

/**
 * The real terminal. Ctrl-C, SIGTERM and SIGHUP (the terminal was closed) fire `signal`; a second
 * one ends the process at once.
 */
export function terminalIo(): CliIo & Disposable {
  const encoder = new TextEncoder();
  const interrupt = new AbortController();
  const names = Object.keys(signalNumbers) as EndSignal[];
  const listeners = names.map((name) => {
    const listener = () => {
      if (interrupt.signal.aborted) Deno.exit(128 + signalNumbers[name]);
      interrupt.abort(new SignalError(name));
    };
    return [name, listener] as const;
  });
  for (const [name, listener] of listeners) Deno.addSignalListener(name, listener);
  return {
    out(text) {
      try {
        writeAll(Deno.stdout, encoder.encode(text));
      } catch (cause) {
        const isLost = ["ENOSPC", "EDQUOT", "EFBIG"].includes(systemCodeOf(cause) ?? "");
        if (isLost) throw asPermissionError(cause, "--allow-write", "write the standard output");
        throw new OutputClosedError({ cause });
      }
    },
    err(text) {
      try {
        writeAll(Deno.stderr, encoder.encode(text));
      } catch {
        // The terminal is gone; what was done is not undone for that.
      }
    },
    isTerminal: Deno.stderr.isTerminal(),
    isOutTerminal: Deno.stdout.isTerminal(),
    // Asked again each time: a window may change its size.
    get columns() {
      return terminalSize().columns;
    },
    get rows() {
      return terminalSize().rows;
    },
    signal: interrupt.signal,
    env: grantedEnv,
    stdin: () => new Response(Deno.stdin.readable).text(),
    [Symbol.dispose]() {
      for (const [name, listener] of listeners) Deno.removeSignalListener(name, listener);
    },
  };
}

function terminalSize(): { columns: number; rows: number } {
  try {
    const { columns, rows } = Deno.consoleSize();
    // A terminal that does not know its size says 0.
    return { columns: columns || 80, rows: rows || 24 };
  } catch {
    return { columns: 100, rows: 24 };
  }
}

function writeAll(to: { writeSync(bytes: Uint8Array): number }, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += to.writeSync(bytes.subarray(at));
}
