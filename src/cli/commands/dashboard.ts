import type { Command } from "commander";
import { openDashboard } from "../../dashboard/mod.ts";
import { ValidationError } from "../../errors.ts";
import { Monitor } from "../../telemetry/mod.ts";
import {
  callOf,
  type ControlCall,
  controlledFleet,
  defaultControlPort,
  mayCall,
} from "../control_client.ts";
import {
  accessOf,
  addFleetOptions,
  type FleetOptions,
  oneAddress,
  untilSomebodyAnswers,
} from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { addPageOptions, pageAccess, type PageOptions } from "../page_options.ts";
import { toldBy } from "../option_words.ts";
import type { CommandContext } from "../program.ts";
import { WatchedFleet } from "../watched_fleet.ts";

const examples = `
Examples:
  sglang-rl dashboard                              the fleet of a serve on this machine
  sglang-rl dashboard -s http://127.0.0.1:30000
  SGLANG_RL_DASHBOARD_KEY=$(openssl rand -hex 16) sglang-rl dashboard -r http://127.0.0.1:30010

It shows the servers and what becomes of them; one that is down is taken in when it comes. A program
shows its rollouts and syncs too: see docs/dashboard.md. Buttons need the key of --key-env; so does
reading where others can connect. Drain goes by the serve that has the servers, else by the router.`;

interface Options extends FleetOptions, PageOptions {
  readonly control?: string | undefined;
}

/** Adds `dashboard`. */
export function addDashboard(program: Command, { io }: CommandContext): void {
  const command = program.command("dashboard")
    .description("Serve a page that shows the fleet, until Ctrl-C.")
    .option(
      "--control <url>",
      `control endpoint that serve printed (default: http://127.0.0.1:${defaultControlPort}, if it is there)`,
      oneAddress,
    );
  addPageOptions(addFleetOptions(command), "9410")
    .addHelpText("after", examples)
    .action((options: Options) => dashboard(options, io));
}

async function dashboard(options: Options, io: CliIo): Promise<void> {
  const access = pageAccess(options, io);
  const { server: servers, router } = options;
  await untilSomebodyAnswers(options, io);
  const control = await controlOf(options, io);
  if (servers.length === 0 && router === undefined && control === undefined) {
    throw new ValidationError(
      "No serve answers on this machine: name the servers with --server URL, their router with " +
        "--router URL, or the control endpoint of serve with --control URL",
    );
  }
  await using fleet = new WatchedFleet({ servers, router, control, access: accessOf(options, io) });
  using monitor = new Monitor({ engine: fleet });
  await fleet.firstLook(io.signal);
  await using page = await openDashboard({
    monitor,
    actions: fleet.actions,
    ...access,
    signal: io.signal,
    onError: (error) => io.err(`The page could not answer: ${toldBy("dashboard", error)}\n`),
  });
  io.out(`Dashboard: ${page.url}\n`);
  await page.finished;
}

/** The endpoint that was named, which must answer, or the usual one where somebody is there. */
async function controlOf(options: Options, io: CliIo): Promise<ControlCall | undefined> {
  const { control: given } = options;
  const control = given ?? `http://127.0.0.1:${defaultControlPort}`;
  const call = callOf({ ...options, control }, io);
  if (given === undefined && !mayCall(call.url)) return undefined;
  try {
    await controlledFleet({ ...call, timeoutMs: 5000 });
    return call;
  } catch (error) {
    if (given !== undefined || io.signal.aborted) throw error;
    return undefined;
  }
}
