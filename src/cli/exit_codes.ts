import { SGLangError } from "../errors.ts";
import { SignalError } from "./io.ts";

/** How the command line ends. */
export const exitCodes = {
  /** All went well. */
  ok: 0,
  /** It was tried and failed. */
  failed: 1,
  /** The arguments were wrong; nothing was done. */
  usage: 2,
  /** A server does not answer or is not healthy. */
  unreachable: 3,
  /** Deno refused a permission; the message names the flag. */
  permission: 4,
  /** SIGHUP: the terminal was closed. */
  hangup: 129,
  /** Ctrl-C. */
  interrupted: 130,
  /** SIGTERM. */
  terminated: 143,
} as const;

/** One of {@linkcode exitCodes}. */
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** What each code means: the only table, shown by `--help` and in `docs/cli.md`. */
export const exitCodeMeanings: Readonly<Record<ExitCode, string>> = {
  0: "done",
  1: "tried and failed",
  2: "wrong arguments; nothing was done",
  3: "a server is unreachable or does not generate",
  4: "Deno refused a permission; the message names the flag",
  129: "the terminal was closed (SIGHUP)",
  130: "Ctrl-C (SIGINT), also for commands that run until then",
  143: "SIGTERM, also for commands that run until then",
};

/**
 * The exit code for an error. What lies beneath counts: a sync that failed because nobody answered
 * ends as any other command whose server does not answer.
 */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof SGLangError && error.code === "validation") return exitCodes.usage;
  let beneath: unknown = error;
  for (let depth = 0; beneath instanceof Error && depth < 16; depth++) {
    if (beneath instanceof SGLangError) {
      if (beneath.code === "unreachable") return exitCodes.unreachable;
      if (beneath.code === "permission") return exitCodes.permission;
    }
    beneath = beneath instanceof AggregateError ? beneath.errors[0] : beneath.cause;
  }
  return exitCodes.failed;
}

/** The exit code of a command that a signal ended. */
export function exitCodeOfSignal(reason: unknown): ExitCode {
  if (!(reason instanceof SignalError)) return exitCodes.interrupted;
  const codes = {
    SIGHUP: exitCodes.hangup,
    SIGINT: exitCodes.interrupted,
    SIGTERM: exitCodes.terminated,
  } as const;
  return codes[reason.signal];
}
