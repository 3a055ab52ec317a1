import type { Command } from "commander";
import { SGLangClient } from "../../client/mod.ts";
import { PermissionError } from "../../errors.ts";
import { sleep } from "../../internal/deadline.ts";
import { type ExitCode, exitCodes } from "../exit_codes.ts";
import {
  addFleetOptions,
  type FleetOptions,
  keysOf,
  numberFrom,
  serverUrls,
} from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import type { CommandContext } from "../program.ts";
import { textTable } from "../table.ts";

interface Options extends FleetOptions {
  readonly watch?: boolean | undefined;
  readonly interval: number;
  readonly json?: boolean | undefined;
}

/** State of one server. */
interface ServerStatus {
  readonly server: string;
  /** `ready`; `not generating` when it answers but a generation does not pass; `unreachable`. */
  readonly health: "ready" | "not generating" | "unreachable";
  readonly sglang: string | null;
  readonly model: string | null;
  readonly weightVersion: string | null;
  readonly running: number | null;
  readonly waiting: number | null;
  readonly tokensPerSecond: number | null;
  readonly kvUsagePercent: number | null;
}

/** A paused server lets /health wait for 20 s; a status should not. */
const healthTimeoutMs = 5000;
const infoTimeoutMs = 3000;

const examples = `
Examples:
  sglang-rl status -s http://127.0.0.1:30000 -s http://127.0.0.1:30001
  sglang-rl status -r http://127.0.0.1:30010 --watch --interval 2
  sglang-rl status -s http://127.0.0.1:30000 --json | jq .health

The exit code is 3 when a server is not ready.`;

/** Adds `status`. */
export function addStatus(program: Command, { io, exitWith }: CommandContext): void {
  addFleetOptions(
    program.command("status").description("Show health, load and weight version of servers."),
  )
    .option("-w, --watch", "keep the table up to date until Ctrl-C")
    .option("--interval <seconds>", "pause between two looks", numberFrom(0.1), 1)
    .option("--json", "one JSON object on a line for each server")
    .addHelpText("after", examples)
    .action(async (options: Options) => exitWith(await status(options, io)));
}

async function status(options: Options, io: CliIo): Promise<ExitCode> {
  await using stack = new AsyncDisposableStack();
  const clients = (await serverUrls(options, io)).map((url) =>
    stack.use(new SGLangClient({ url, ...keysOf(options, io) }))
  );
  let fleet = await look(clients, io.signal);
  io.out(render(fleet, options));
  if (!options.watch) {
    const isReady = fleet.every(({ health }) => health === "ready");
    return isReady ? exitCodes.ok : exitCodes.unreachable;
  }
  while (!io.signal.aborted) {
    await sleep(options.interval * 1000, { signal: io.signal }).catch(() => {});
    if (io.signal.aborted) break;
    const lines = fleet.length + 1;
    fleet = await look(clients, io.signal);
    // The table is drawn over the last one; a file gets one after the other.
    const back = io.isTerminal && !options.json ? `\x1b[${lines}A\x1b[J` : "";
    io.out(back + render(fleet, options));
  }
  return exitCodes.ok;
}

function look(clients: readonly SGLangClient[], signal: AbortSignal): Promise<ServerStatus[]> {
  return Promise.all(clients.map(async (client) => {
    const short = { timeoutMs: infoTimeoutMs, signal };
    const [info, model, load, isHealthy] = await Promise.all([
      client.serverInfo(short).catch(nullUnlessDenied),
      client.modelInfo(short).catch(nullUnlessDenied),
      client.load(short).catch(nullUnlessDenied),
      client.health({ timeoutMs: healthTimeoutMs, signal }).catch(nullUnlessDenied),
    ]);
    return {
      server: client.url,
      health: isHealthy ? "ready" : info === null ? "unreachable" : "not generating",
      sglang: info?.version ?? null,
      model: model?.modelPath ?? null,
      weightVersion: model?.weightVersion ?? null,
      running: load?.running ?? null,
      waiting: load?.waiting ?? null,
      tokensPerSecond: load === null ? null : Math.round(load.tokensPerSecond ?? 0),
      kvUsagePercent: load?.tokenUsage == null ? null : Math.round(load.tokenUsage * 1000) / 10,
    };
  }));
}

/** A server that does not answer is a result; a permission that is missing is not. */
function nullUnlessDenied(error: unknown): null {
  if (error instanceof PermissionError) throw error;
  return null;
}

function render(fleet: readonly ServerStatus[], options: Options): string {
  if (options.json) return fleet.map((one) => `${JSON.stringify(one)}\n`).join("");
  const header = ["server", "health", "sglang", "weights", "running", "waiting", "tok/s", "kv %"];
  const rows = fleet.map((one) => [
    one.server,
    one.health,
    one.sglang ?? "-",
    one.weightVersion ?? "-",
    one.running,
    one.waiting,
    one.tokensPerSecond,
    one.kvUsagePercent,
  ]);
  return textTable(header, rows);
}
