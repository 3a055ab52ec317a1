import { grantedEnv } from "../internal/granted_env.ts";
/** Where the command line reads and writes, so that a test can stand in for the terminal. */
export interface CliIo {
  /** Writes a result. */
  readonly out: (text: string) => void;
  /** Writes progress and errors. */
  readonly err: (text: string) => void;
  /** Whether somebody watches `err`. */
  readonly isTerminal: boolean;
  /** Columns of the terminal. */
  readonly columns: number;
  /** Fires at Ctrl-C. */
  readonly signal: AbortSignal;
  /** Reads a variable; `undefined` where Deno does not allow it. */
  readonly env: (name: string) => string | undefined;
  /** Reads all of the standard input. */
  readonly stdin: () => Promise<string>;
}

/** The real terminal. Ctrl-C fires `signal`; a second one ends the process at once. */
export function terminalIo(): CliIo & Disposable {
  const encoder = new TextEncoder();
  const interrupt = new AbortController();
  const onSignal = () => {
    if (interrupt.signal.aborted) Deno.exit(130);
    interrupt.abort(new Error("interrupted"));
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const name of signals) Deno.addSignalListener(name, onSignal);
  const isTerminal = Deno.stderr.isTerminal();
  return {
    out: (text) => writeAll(Deno.stdout, encoder.encode(text)),
    err: (text) => writeAll(Deno.stderr, encoder.encode(text)),
    isTerminal,
    columns: isTerminal ? Deno.consoleSize().columns : 100,
    signal: interrupt.signal,
    env: grantedEnv,
    stdin: () => new Response(Deno.stdin.readable).text(),
    [Symbol.dispose]() {
      for (const name of signals) Deno.removeSignalListener(name, onSignal);
    },
  };
}

function writeAll(to: { writeSync(bytes: Uint8Array): number }, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += to.writeSync(bytes.subarray(at));
}
