import type { Command } from "commander";
import { checkDeno, checkPermissions } from "../doctor/deno_checks.ts";
import { checkGpus, checkPythons } from "../doctor/machine_checks.ts";
import { checkPorts, checkRouter, checkServers } from "../doctor/network_checks.ts";
import type { Finding } from "../doctor/finding.ts";
import { type ExitCode, exitCodes } from "../exit_codes.ts";
import { accessOf, addFleetOptions, type FleetOptions, wholeNumber } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { jsonLine } from "../json_lines.ts";
import type { CommandContext } from "../program.ts";

interface Options extends FleetOptions {
  readonly python?: string | undefined;
  readonly routerPython?: string | undefined;
  readonly port?: readonly number[] | undefined;
  readonly json?: boolean | undefined;
}

const examples = `
Examples:
  deno run -A jsr:@sglang-rl/sglang-rl/cli doctor
  sglang-rl doctor --python ~/sglang/bin/python --port 30000
  sglang-rl doctor -s http://127.0.0.1:30000 --json
  sglang-rl doctor -r http://127.0.0.1:30010        the router and every server behind it

The exit code is 3 when a server or the router does not answer, 1 when something else is broken; a
note alone leaves it at 0.`;

/** Adds `doctor`. */
export function addDoctor(program: Command, { io, exitWith }: CommandContext): void {
  addFleetOptions(
    program.command("doctor")
      .description("Look for what is missing on this machine, and tell what to do about it."),
  )
    .option("--python <path>", "Python that has SGLang (default: $SGLANG_PYTHON, python3)")
    .option("--router-python <path>", "Python that has the router (default: the same)")
    .option(
      "--port <port>",
      "port that should be free; may be repeated",
      (value: string, before: number[] = []) => [...before, wholeNumber(1)(value)],
    )
    .option("--json", "one JSON object on a line for each finding")
    .addHelpText("after", examples)
    .action(async (options: Options) => exitWith(await doctor(options, io)));
}

async function doctor(options: Options, io: CliIo): Promise<ExitCode> {
  const { signal } = io;
  const python = options.python ?? io.env("SGLANG_PYTHON") ?? "python3";
  const routerPython = options.routerPython ?? io.env("SGLANG_ROUTER_PYTHON") ?? python;
  let isBroken = false;
  let isUnreachable = false;
  const report = (findings: readonly Finding[]) => {
    for (const finding of findings) {
      isBroken ||= finding.state === "broken";
      isUnreachable ||= finding.isUnreachable;
      io.out(options.json ? jsonLine(finding) : shown(finding));
    }
  };
  const access = accessOf(options, io);
  report([checkDeno()]);
  report(await checkPermissions());
  report(await checkPythons({ python, routerPython, signal }));
  report(await checkGpus(signal));
  report(checkPorts(options.port ?? [30000]));
  const behind = options.router === undefined
    ? { findings: [], workers: [] }
    : await checkRouter(options.router, { ...access, signal });
  report(behind.findings);
  const urls = [...new Set([...options.server, ...behind.workers])];
  report(await checkServers(urls, { ...access, keyName: options.apiKeyEnv, signal }));
  if (isUnreachable) return exitCodes.unreachable;
  return isBroken ? exitCodes.failed : exitCodes.ok;
}

const marks = { fine: "ok     ", note: "note   ", broken: "BROKEN " } as const;

function shown({ state, what, detail, advice }: Finding): string {
  const line = `${marks[state]} ${what}: ${detail}\n`;
  return advice === null ? line : `${line}         -> ${advice}\n`;
}
