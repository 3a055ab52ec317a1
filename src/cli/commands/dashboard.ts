import type { Command } from "commander";
import { actionsOf, openDashboard } from "../../dashboard/mod.ts";
import { ValidationError } from "../../errors.ts";
import { messageOf } from "../../internal/thrown.ts";
import { Monitor } from "../../telemetry/mod.ts";
import { addFleetOptions, connectFleet, type FleetOptions } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { addressFrom, type ListenAddress } from "../listen_address.ts";
import type { CommandContext } from "../program.ts";

const examples = `
Examples:
  sglang-rl dashboard -s http://127.0.0.1:30000
  SGLANG_RL_DASHBOARD_KEY=$(openssl rand -hex 16) sglang-rl dashboard -r http://127.0.0.1:30010

It shows the servers and what becomes of them. A program shows its rollouts and syncs too: see
docs/dashboard.md. Buttons need the key of --key-env; so does reading where others can connect.`;

interface Options extends FleetOptions {
  readonly listen: ListenAddress;
  readonly keyEnv: string;
}

/** Adds `dashboard`. */
export function addDashboard(program: Command, { io }: CommandContext): void {
  addFleetOptions(
    program.command("dashboard").description("Serve a page that shows the fleet, until Ctrl-C."),
  )
    .option("--listen <[host:]port>", "where the page is", addressFrom, addressFrom("9410"))
    .option("--key-env <name>", "variable with the page's key", "SGLANG_RL_DASHBOARD_KEY")
    .addHelpText("after", examples)
    .action((options: Options) => dashboard(options, io));
}

async function dashboard(options: Options, io: CliIo): Promise<void> {
  const { hostname, port } = options.listen;
  const key = io.env(options.keyEnv);
  if (key !== undefined && key.length < 16) {
    throw new ValidationError(`$${options.keyEnv} must have at least 16 characters`);
  }
  await using engine = await connectFleet(options, io);
  using monitor = new Monitor({ engine });
  await using page = await openDashboard({
    monitor,
    actions: actionsOf(engine),
    hostname,
    port,
    key,
    signal: io.signal,
    onError: (error) => io.err(`The page could not answer: ${messageOf(error)}\n`),
  });
  io.out(`Dashboard: ${page.url}\n`);
  await page.finished;
}
