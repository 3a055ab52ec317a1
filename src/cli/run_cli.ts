import { CommanderError } from "commander";
import { type ExitCode, exitCodeOf, exitCodeOfSignal, exitCodes } from "./exit_codes.ts";
import { type CliIo, OutputClosedError } from "./io.ts";
import { inFlags } from "./option_words.ts";
import { makeProgram } from "./program.ts";
import { messageOf } from "../internal/thrown.ts";

/**
 * Runs the command line and tells how it ended. Errors are written as one line; nothing is thrown.
 *
 * @param args The arguments, without the program's name.
 *
 * @example
 * ```ts
 * import { runCli, terminalIo } from "@sglang-rl/sglang-rl/cli";
 *
 * using io = terminalIo();
 * Deno.exitCode = await runCli(["--help"], io);
 * ```
 */
export async function runCli(args: readonly string[], io: CliIo): Promise<ExitCode> {
  let code: ExitCode = exitCodes.ok;
  const program = makeProgram({ io, exitWith: (given) => code = given });
  let command = "";
  program.hook("preAction", (_, action) => void (command = action.name()));
  try {
    await program.parseAsync(args, { from: "user" });
    return io.signal.aborted ? exitCodeOfSignal(io.signal.reason) : code;
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    }
    if (error instanceof OutputClosedError) {
      // Whoever read the results has what it wanted, as `head`; a terminal that is gone was closed,
      // also where its signal comes later.
      return io.isOutTerminal ? exitCodes.hangup : exitCodes.ok;
    }
    if (io.signal.aborted) {
      io.err("Interrupted\n");
      return exitCodeOfSignal(io.signal.reason);
    }
    io.err(`error: ${inFlags(messageOf(error), command, args)}\n`);
    return exitCodeOf(error);
  }
}
