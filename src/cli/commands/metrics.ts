import type { Command } from "commander";
import { SGLangClient } from "../../client/mod.ts";
import { serveHttp } from "../../internal/serve_http.ts";
import { serverGauges, serverInfo } from "../../telemetry/families.ts";
import { type Family, PROMETHEUS_TYPE, prometheusText } from "../../telemetry/mod.ts";
import { type ExitCode, exitCodes } from "../exit_codes.ts";
import { accessOf, addFleetOptions, type FleetOptions, serverUrls } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { addressFrom, type ListenAddress } from "../listen_address.ts";
import { toldBy } from "../option_words.ts";
import type { CommandContext } from "../program.ts";
import { lookAt, type ServerStatus } from "../server_status.ts";

const examples = `
Examples:
  sglang-rl metrics -s http://127.0.0.1:30000
  sglang-rl metrics -r http://127.0.0.1:30010 > /var/lib/node_exporter/sglang_rl.prom
  sglang-rl metrics -r http://127.0.0.1:30010 --listen 9400

It prints what the servers say now, in Prometheus's text format, and ends; with --listen it answers
at /metrics until Ctrl-C, and asks the servers anew for each scrape. Servers started with
--enable-metrics have more at their own /metrics. The exit code is 3 when none of them answers.`;

interface Options extends FleetOptions {
  readonly listen?: ListenAddress | undefined;
}

/** Adds `metrics`. */
export function addMetrics(program: Command, { io, exitWith }: CommandContext): void {
  addFleetOptions(
    program.command("metrics").description("Print the fleet's state in Prometheus's text format."),
  )
    .option("--listen <[host:]port>", "answer scrapes at /metrics until Ctrl-C", addressFrom)
    .addHelpText("after", examples)
    .action(async (options: Options) => exitWith(await metrics(options, io)));
}

async function metrics(options: Options, io: CliIo): Promise<ExitCode> {
  await using stack = new AsyncDisposableStack();
  const clients = (await serverUrls(options, io)).map((url) =>
    stack.use(new SGLangClient({ url, ...accessOf(options, io) }))
  );
  const look = () => lookAt(clients, io.signal);
  if (options.listen !== undefined) {
    await answerScrapes(options.listen, async () => prometheusText(families(await look())), io);
    return exitCodes.ok;
  }
  const fleet = await look();
  io.out(prometheusText(families(fleet)));
  const isDead = fleet.every(({ health }) => health === "unreachable");
  return isDead ? exitCodes.unreachable : exitCodes.ok;
}

async function answerScrapes(
  { hostname, port }: ListenAddress,
  text: () => Promise<string>,
  io: CliIo,
): Promise<void> {
  // Scrapes that come together get one look at the servers.
  let look: Promise<string> | undefined;
  const lookOnce = () => look ??= text().finally(() => look = undefined);
  const server = await serveHttp({
    hostname,
    port,
    signal: io.signal,
    onError: (error) => io.err(`The servers could not be asked: ${toldBy("metrics", error)}\n`),
    async handler(request) {
      if (new URL(request.url).pathname !== "/metrics") {
        return new Response("The metrics are at /metrics\n", { status: 404 });
      }
      if (request.method !== "GET" && request.method !== "HEAD") {
        return new Response("Only GET\n", { status: 405, headers: { allow: "GET, HEAD" } });
      }
      return new Response(await lookOnce(), { headers: { "content-type": PROMETHEUS_TYPE } });
    },
  });
  io.out(`Metrics: http://${hostname}:${server.addr.port}/metrics\n`);
  await server.finished;
}

function ratio(percent: number | null): number | null {
  return percent === null ? null : Math.round(percent * 10) / 1000;
}

/** The state of servers as metrics; what a server does not tell is left out. */
export function families(fleet: readonly ServerStatus[]): Family[] {
  return [
    ...serverGauges(fleet.map((server) => ({
      ...server,
      url: server.server,
      answers: server.health !== "unreachable",
      isReady: server.health === "ready",
      kvUsage: ratio(server.kvUsagePercent),
      cacheHits: ratio(server.cacheHitPercent),
    }))),
    serverInfo(fleet.map((server) => ({
      server: server.server,
      sglang: server.sglang ?? "",
      weight_version: server.weightVersion ?? "",
      checkpoint: server.checkpoint ?? "",
    }))),
  ];
}
