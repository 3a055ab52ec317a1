import type { Command } from "commander";
import type { ControlledServer } from "../../fleet/mod.ts";
import { StateError, ValidationError } from "../../errors.ts";
import { sleep } from "../../internal/deadline.ts";
import { namingPermission } from "../../internal/permission.ts";
import {
  type ControlCall,
  controlledServers,
  defaultControlPort,
  order,
} from "../control_client.ts";
import { keysOf, wholeNumber } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { jsonLine } from "../json_lines.ts";
import type { CommandContext } from "../program.ts";

interface Options {
  readonly control: string;
  readonly apiKeyEnv: string;
  readonly adminKeyEnv: string;
  readonly json?: boolean | undefined;
  readonly undo?: boolean | undefined;
  readonly force?: boolean | undefined;
  readonly follow?: boolean | undefined;
  readonly lines: number;
}

const drainExamples = `
Examples:
  sglang-rl drain http://127.0.0.1:30001           no new requests; returns when none runs
  sglang-rl drain http://127.0.0.1:30001 --undo    brings it up to date and lets it serve again

The last server that serves is not drained.`;

const restartExamples = `
Examples:
  sglang-rl restart http://127.0.0.1:30001
  sglang-rl restart http://127.0.0.1:30001 --force

Its requests may end first, then it is started again, gets the fleet's weights and serves again. One
without which too few servers are healthy is restarted with --force only.`;

const logsExamples = `
Examples:
  sglang-rl logs                                   the last lines of every server
  sglang-rl logs http://127.0.0.1:30001 -n 200 --follow`;

/** Adds `drain`, `restart` and `logs`, which steer a `serve` of this machine. */
export function addControl(program: Command, { io }: CommandContext): void {
  addControlOptions(
    program.command("drain").description("Let a server of serve get no more requests.")
      .argument("<url>", "address of the server"),
  )
    .option("--undo", "let it serve again")
    .option("--json", "one JSON object")
    .addHelpText("after", drainExamples)
    .action((url: string, options: Options) =>
      steer(url, { what: options.undo ? "undrain" : "drain", options, io })
    );
  addControlOptions(
    program.command("restart").description(
      "Start a server of serve again, with the fleet's weights.",
    )
      .argument("<url>", "address of the server"),
  )
    .option("--force", "also when it is needed")
    .option("--json", "one JSON object")
    .addHelpText("after", restartExamples)
    .action((url: string, options: Options) => steer(url, { what: "restart", options, io }));
  addControlOptions(
    program.command("logs").description("Show the logs of the servers of serve.")
      .argument("[url]", "address of one server"),
  )
    .option("-n, --lines <count>", "last lines of each", wholeNumber(0), 20)
    .option("-f, --follow", "go on with new lines until Ctrl-C")
    .addHelpText("after", logsExamples)
    .action((url: string | undefined, options: Options) => logs(url, options, io));
}

function addControlOptions(command: Command): Command {
  return command
    .option(
      "--control <url>",
      "control endpoint that serve printed",
      `http://127.0.0.1:${defaultControlPort}`,
    )
    .option("--api-key-env <name>", "variable that holds the servers' key", "SGLANG_API_KEY")
    .option("--admin-key-env <name>", "variable of their admin key", "SGLANG_ADMIN_API_KEY");
}

function callOf(options: Options, io: CliIo): ControlCall {
  const { apiKey, adminApiKey } = keysOf(options, io);
  return { url: options.control, key: adminApiKey ?? apiKey, signal: io.signal };
}

async function steer(
  given: string,
  { what, options, io }: { what: "drain" | "undrain" | "restart"; options: Options; io: CliIo },
): Promise<void> {
  const url = given.replace(/\/+$/, "");
  const servers = await order(callOf(options, io), what, { url, force: options.force === true });
  const server = servers.find((one) => one.url === url);
  const done = { drain: "drained", undrain: "comes back", restart: "restarted" }[what];
  io.out(options.json ? jsonLine(server ?? { url }) : `${url}: ${done}\n`);
}

async function logs(given: string | undefined, options: Options, io: CliIo): Promise<void> {
  const servers = await controlledServers(callOf(options, io));
  const url = given?.replace(/\/+$/, "");
  const chosen = servers.filter((server) => url === undefined || server.url === url);
  if (chosen.length === 0) {
    throw new ValidationError(
      `${given} is no server of that fleet; these are: ${servers.map((one) => one.url).join(", ")}`,
    );
  }
  const tails = chosen.map((server) => new LogTail(server));
  for (const tail of tails) {
    const text = await tail.last(options.lines);
    io.out(tails.length > 1 ? `==> ${tail.url} <==\n${text}` : text);
  }
  while (options.follow) {
    await sleep(500, { signal: io.signal });
    for (const tail of tails) {
      const text = await tail.more();
      if (text !== "") io.out(tails.length > 1 ? `==> ${tail.url} <==\n${text}` : text);
    }
  }
}

/** Most bytes that are read at a time. */
const CHUNK = 1 << 20;

/** The end of a log file, and what is added to it. */
class LogTail {
  readonly url: string;
  readonly #file: string;
  #at = 0;

  constructor({ url, logFile }: ControlledServer) {
    if (logFile === null) throw new StateError(`${url} has no log file`);
    this.url = url;
    this.#file = logFile;
  }

  /** The last lines, of at most 1 MiB. */
  async last(lines: number): Promise<string> {
    const { size } = await this.#named(() => Deno.stat(this.#file));
    this.#at = Math.max(0, size - CHUNK);
    const text = (await this.more()).trimEnd().split("\n");
    return lines === 0 ? "" : `${text.slice(-lines).join("\n")}\n`;
  }

  /** What came since, of at most 1 MiB. */
  async more(): Promise<string> {
    using file = await this.#named(() => Deno.open(this.#file));
    await file.seek(this.#at, Deno.SeekMode.Start);
    const buffer = new Uint8Array(CHUNK);
    const count = await file.read(buffer) ?? 0;
    this.#at += count;
    return new TextDecoder().decode(buffer.subarray(0, count));
  }

  async #named<T>(work: () => Promise<T>): Promise<T> {
    return await namingPermission(`--allow-read=${this.#file}`, `read ${this.#file}`, work);
  }
}
