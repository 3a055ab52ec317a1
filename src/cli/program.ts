import { Command } from "commander";
import { version } from "../internal/version.ts";
import { addBench } from "./commands/bench.ts";
import { addCompletion } from "./commands/completion.ts";
import { addControl } from "./commands/control.ts";
import { addDashboard } from "./commands/dashboard.ts";
import { addDoctor } from "./commands/doctor.ts";
import { addGateway } from "./commands/gateway.ts";
import { addGenerate } from "./commands/generate.ts";
import { addLaunch } from "./commands/launch.ts";
import { addMetrics } from "./commands/metrics.ts";
import { addPause } from "./commands/pause.ts";
import { addServe } from "./commands/serve.ts";
import { addStatus } from "./commands/status.ts";
import { addSync } from "./commands/sync.ts";
import { addPlot } from "./commands/plot.ts";
import { addView } from "./commands/view.ts";
import { type ExitCode, exitCodeMeanings } from "./exit_codes.ts";
import type { CliIo } from "./io.ts";

/** What a command does its work with. */
export interface CommandContext {
  readonly io: CliIo;
  /** Ends the command line with another code than 0. */
  readonly exitWith: (code: ExitCode) => void;
}

const codes = Object.entries(exitCodeMeanings)
  .map(([code, meaning]) => `  ${code.padStart(3)}  ${meaning}`).join("\n");

const footer = `
Exit codes:
${codes}

Examples:
  sglang-rl serve --embedded                         a test double, to try everything out
  sglang-rl serve Qwen/Qwen2.5-0.5B-Instruct -n 2    two servers behind the router
  sglang-rl generate -s http://127.0.0.1:30000 "Hello"
  sglang-rl sync checkpoints/step-20 -s http://127.0.0.1:30000
  sglang-rl status -s http://127.0.0.1:30000 --watch
  sglang-rl doctor`;

const commands = [
  addServe,
  addGenerate,
  addGateway,
  addSync,
  addStatus,
  addPause,
  addControl,
  addMetrics,
  addDashboard,
  addPlot,
  addView,
  addLaunch,
  addDoctor,
  addBench,
  addCompletion,
] as const;

/** The command line, ready to parse. */
export function makeProgram(context: CommandContext): Command {
  const { io } = context;
  const program = new Command("sglang-rl")
    .description("SGLang servers for reinforcement learning: start, use, refresh and watch them.")
    .version(version, "-V, --version", "print the version")
    .exitOverride()
    .configureOutput({
      writeOut: io.out,
      writeErr: io.err,
      // Commander would otherwise read environment variables, which needs a permission.
      getOutHasColors: () => false,
      getErrHasColors: () => false,
      getOutHelpWidth: () => io.columns,
      getErrHelpWidth: () => io.columns,
    })
    .showHelpAfterError("(--help shows the options and examples)")
    .addHelpText("after", footer);
  for (const add of commands) add(program, context);
  return program;
}
