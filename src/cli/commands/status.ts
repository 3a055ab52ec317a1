import type { Command } from "commander";
import { SGLangClient } from "../../client/mod.ts";
import { sleep } from "../../internal/deadline.ts";
import { type ExitCode, exitCodes } from "../exit_codes.ts";
import type { ControlledServer } from "../../fleet/mod.ts";
import { callOf, defaultControlPort, fleetIfThere, membersOf } from "../control_client.ts";
import {
  accessOf,
  addFleetOptions,
  type FleetOptions,
  numberFrom,
  oneAddress,
  serverUrls,
} from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { jsonLine } from "../json_lines.ts";
import type { CommandContext } from "../program.ts";
import { lookAt, type ServerStatus } from "../server_status.ts";
import { textTable } from "../table.ts";

interface Options extends FleetOptions {
  readonly watch?: boolean | undefined;
  readonly interval: number;
  readonly control: string;
  readonly json?: boolean | undefined;
}

const examples = `
Examples:
  sglang-rl status -s http://127.0.0.1:30000 -s http://127.0.0.1:30001
  sglang-rl status -r http://127.0.0.1:30010 --watch --interval 2
  sglang-rl status -s http://127.0.0.1:30000 --json | jq .health

For servers of a serve on this machine "state" is where they stand there: starting, healthy, suspect,
dead, restarting, stale (waits for the fleet's weights) or retired; with the router's address those
that it does not have are listed too. The exit code is 3 when a server is not ready.`;

/** Adds `status`. */
export function addStatus(program: Command, { io, exitWith }: CommandContext): void {
  addFleetOptions(
    program.command("status")
      .description("Show health, load, weight version and cache hits of servers."),
  )
    .option("-w, --watch", "keep the table up to date until Ctrl-C")
    .option("--interval <seconds>", "pause between two looks", numberFrom(0.1), 1)
    .option(
      "--control <url>",
      "control endpoint of a serve, which tells the state of its servers",
      oneAddress,
      `http://127.0.0.1:${defaultControlPort}`,
    )
    .option("--json", "one JSON object on a line for each server")
    .addHelpText("after", examples)
    .action(async (options: Options) => exitWith(await status(options, io)));
}

async function status(options: Options, io: CliIo): Promise<ExitCode> {
  await using stack = new AsyncDisposableStack();
  const clients: SGLangClient[] = [];
  const named = await serverUrls(options, io);
  // A terminal shows one table that changes; a file gets one after the other.
  const isRedrawn = options.watch === true && io.isOutTerminal === true && !options.json;
  for (;;) {
    const supervised = await supervisedOf(options, io);
    const urls =
      supervised.length === 0 || options.router === undefined || options.server.length > 0
        ? named
        : [...new Set([...named, ...supervised.map(({ url }) => url)])];
    for (const url of urls) {
      if (clients.some((client) => client.url === url)) continue;
      clients.push(stack.use(new SGLangClient({ url, ...accessOf(options, io) })));
    }
    const fleet = await lookAt(clients, io.signal, supervised);
    const text = render(fleet, options, io);
    io.out(isRedrawn ? frame(text, io) : text);
    if (!options.watch) {
      const isReady = fleet.every(({ health }) => health === "ready");
      return isReady ? exitCodes.ok : exitCodes.unreachable;
    }
    await sleep(options.interval * 1000, { signal: io.signal });
  }
}

/** The servers of the serve that those asked for are of, as it has them; else none. */
async function supervisedOf(options: Options, io: CliIo): Promise<readonly ControlledServer[]> {
  const fleet = await fleetIfThere(callOf(options, io));
  if (fleet === undefined) return [];
  const { server, router } = options;
  const isOfThese = membersOf(fleet).some(({ url }) => url === router || server.includes(url));
  return isOfThese ? fleet.servers : [];
}

function render(fleet: readonly ServerStatus[], options: Options, io: CliIo): string {
  if (options.json) return fleet.map(jsonLine).join("");
  const isSupervised = fleet.some(({ state }) => state !== null);
  const header = [
    "server",
    "health",
    ...(isSupervised ? ["state"] : []),
    "sglang",
    "weights",
    "running",
    "waiting",
    "tok/s",
    "kv %",
    "cache hit %",
    "checkpoint",
  ];
  const rows = fleet.map((one) => [
    one.server,
    one.health,
    ...(isSupervised ? [one.isDrained ? `${one.state}, drained` : one.state] : []),
    one.sglang,
    one.weightVersion,
    one.running,
    one.waiting,
    one.tokensPerSecond,
    one.kvUsagePercent,
    one.cacheHitPercent,
    one.checkpoint,
  ]);
  return textTable(header, rows, io.isOutTerminal ? io.columns : undefined);
}

/** The text from the top of the screen on, with what does not fit left out. */
function frame(text: string, { rows = 24 }: CliIo): string {
  const lines = text.trimEnd().split("\n");
  const shown = lines.length < rows
    ? lines
    : [...lines.slice(0, rows - 2), `… ${lines.length - rows + 2} more lines`];
  return `\x1b[H\x1b[2J${shown.join("\n")}\n`;
}
