import type { Command } from "commander";
import { SGLangClient } from "../../client/mod.ts";
import { accessOf, addFleetOptions, type FleetOptions, serverUrls } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import type { CommandContext } from "../program.ts";
import { lookAt, type ServerStatus } from "../server_status.ts";

const examples = `
Examples:
  sglang-rl metrics -s http://127.0.0.1:30000
  sglang-rl metrics -r http://127.0.0.1:30010 > /var/lib/node_exporter/sglang_rl.prom

It prints what the servers say now, in Prometheus's text format, and ends. Servers started with
--enable-metrics have more at their own /metrics.`;

/** Adds `metrics`. */
export function addMetrics(program: Command, { io }: CommandContext): void {
  addFleetOptions(
    program.command("metrics").description("Print the fleet's state in Prometheus's text format."),
  )
    .addHelpText("after", examples)
    .action((options: FleetOptions) => metrics(options, io));
}

async function metrics(options: FleetOptions, io: CliIo): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const clients = (await serverUrls(options, io)).map((url) =>
    stack.use(new SGLangClient({ url, ...accessOf(options, io) }))
  );
  io.out(prometheusText(await lookAt(clients, io.signal)));
}

interface Gauge {
  readonly name: string;
  readonly help: string;
  readonly value: (server: ServerStatus) => number | null;
}

const gauges: readonly Gauge[] = [
  { name: "up", help: "Whether the server answers.", value: (s) => +(s.health !== "unreachable") },
  { name: "ready", help: "Whether the server generates.", value: (s) => +(s.health === "ready") },
  { name: "requests_running", help: "Requests that run.", value: (s) => s.running },
  { name: "requests_waiting", help: "Requests that wait.", value: (s) => s.waiting },
  { name: "tokens_per_second", help: "Tokens made a second.", value: (s) => s.tokensPerSecond },
  {
    name: "kv_usage_ratio",
    help: "Share of the KV pool in use.",
    value: (s) => ratio(s.kvUsagePercent),
  },
  {
    name: "cache_hit_ratio",
    help: "Share of prompt tokens found in the prefix cache.",
    value: (s) => ratio(s.cacheHitPercent),
  },
];

function ratio(percent: number | null): number | null {
  return percent === null ? null : Math.round(percent * 10) / 1000;
}

/** The state of servers in Prometheus's text format; what a server does not tell is left out. */
export function prometheusText(fleet: readonly ServerStatus[]): string {
  const families = gauges.map(({ name, help, value }) => {
    const full = `sglang_rl_server_${name}`;
    const samples = fleet.flatMap((server) => {
      const number = value(server);
      return number === null ? [] : [`${full}${labels({ server: server.server })} ${number}\n`];
    });
    return `# HELP ${full} ${help}\n# TYPE ${full} gauge\n${samples.join("")}`;
  });
  const info = "sglang_rl_server_info";
  const infos = fleet.map((server) => {
    const named = {
      server: server.server,
      sglang: server.sglang ?? "",
      weight_version: server.weightVersion ?? "",
      checkpoint: server.checkpoint ?? "",
    };
    return `${info}${labels(named)} 1\n`;
  });
  return `${families.join("")}# HELP ${info} What the server is and which weights it has.\n` +
    `# TYPE ${info} gauge\n${infos.join("")}`;
}

function labels(values: Readonly<Record<string, string>>): string {
  const escaped = Object.entries(values).map(([name, value]) =>
    `${name}="${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`
  );
  return `{${escaped.join(",")}}`;
}
