import { SGLangError } from "../errors.ts";

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
  /** Ctrl-C. */
  interrupted: 130,
} as const;

/** One of {@linkcode exitCodes}. */
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** The exit code for an error. */
export function exitCodeOf(error: unknown): ExitCode {
  if (!(error instanceof SGLangError)) return exitCodes.failed;
  if (error.code === "validation") return exitCodes.usage;
  if (error.code === "unreachable") return exitCodes.unreachable;
  if (error.code === "permission") return exitCodes.permission;
  return exitCodes.failed;
}
