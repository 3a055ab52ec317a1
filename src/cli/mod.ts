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

export { type ExitCode, exitCodes } from "./exit_codes.ts";
export { type CliIo, terminalIo } from "./io.ts";
export { runCli } from "./run_cli.ts";

if (import.meta.main) {
  using io = terminalIo();
  Deno.exitCode = await runCli(Deno.args, io);
}
