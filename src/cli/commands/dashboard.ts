import type { Command } from "commander";
import { actionsOf, openDashboard } from "../../dashboard/mod.ts";
import { messageOf } from "../../internal/thrown.ts";
import { Monitor } from "../../telemetry/mod.ts";
import { addFleetOptions, connectFleet, type FleetOptions } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { addPageOptions, pageAccess, type PageOptions } from "../page_options.ts";
import type { CommandContext } from "../program.ts";

const examples = `
Examples:
  sglang-rl dashboard -s http://127.0.0.1:30000
  SGLANG_RL_DASHBOARD_KEY=$(openssl rand -hex 16) sglang-rl dashboard -r http://127.0.0.1:30010

It shows the servers and what becomes of them. A program shows its rollouts and syncs too: see
docs/dashboard.md. Buttons need the key of --key-env; so does reading where others can connect.`;

interface Options extends FleetOptions, PageOptions {}

/** Adds `dashboard`. */
export function addDashboard(program: Command, { io }: CommandContext): void {
  const command = program.command("dashboard")
    .description("Serve a page that shows the fleet, until Ctrl-C.");
  addPageOptions(addFleetOptions(command), "9410")
    .addHelpText("after", examples)
    .action((options: Options) => dashboard(options, io));
}

async function dashboard(options: Options, io: CliIo): Promise<void> {
  const access = pageAccess(options, io);
  await using engine = await connectFleet(options, io);
  using monitor = new Monitor({ engine });
  await using page = await openDashboard({
    monitor,
    actions: actionsOf(engine),
    ...access,
    signal: io.signal,
    onError: (error) => io.err(`The page could not answer: ${messageOf(error)}\n`),
  });
  io.out(`Dashboard: ${page.url}\n`);
  await page.finished;
}
