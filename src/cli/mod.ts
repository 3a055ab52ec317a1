/**
 * The command line: `serve`, `generate`, `sync`, `status`, `doctor` and `bench`.
 *
 * Run it with `deno run -A jsr:@sglang-rl/sglang-rl/cli --help`; `docs/cli.md` lists the permissions
 * that each command needs.
 *
 * @module
 */
import { terminalIo } from "./io.ts";
import { runCli } from "./run_cli.ts";

export { type ExitCode, exitCodeMeanings, exitCodes } from "./exit_codes.ts";
export { type CliIo, type EndSignal, OutputClosedError, SignalError, terminalIo } from "./io.ts";
export { runCli } from "./run_cli.ts";

if (import.meta.main) {
  using io = terminalIo();
  // Not Deno.exitCode: whatever still holds the event loop, the command has ended.
  Deno.exit(await runCli(Deno.args, io));
}
