import type { Command } from "commander";
import { ValidationError } from "../../errors.ts";
import { canonicalUrl } from "../../internal/canonical_url.ts";
import type { ControlledServer } from "../../fleet/mod.ts";
import { sleep } from "../../internal/deadline.ts";
import {
  callOf,
  controlledFleet,
  defaultControlPort,
  membersOf,
  order,
} from "../control_client.ts";
import { oneAddress, wholeNumber } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { LogTail } from "../log_tail.ts";
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

/** Pause between two looks for new lines. */
const FOLLOW_MS = 500;

const drainExamples = `
Examples:
  sglang-rl drain http://127.0.0.1:30001           no new requests; returns when none runs
  sglang-rl drain http://127.0.0.1:30001 --undo    brings it up to date and lets it serve again

The addresses are those that serve printed; "sglang-rl status --router URL" lists them later. The
last server that serves is not drained.`;

const restartExamples = `
Examples:
  sglang-rl restart http://127.0.0.1:30001
  sglang-rl restart http://127.0.0.1:30001 --force

Its requests may end first, then it is started again, gets the fleet's weights and serves again; one
that is drained stays so until "drain --undo". One without which too few servers are healthy is
restarted with --force only.`;

const logsExamples = `
Examples:
  sglang-rl logs                                   the last lines of all
  sglang-rl logs http://127.0.0.1:30001 -n 200 --follow`;

/** Adds `drain`, `restart` and `logs`, which steer a `serve` of this machine. */
export function addControl(program: Command, { io }: CommandContext): void {
  addControlOptions(
    program.command("drain").description("Let a server of serve get no more requests.")
      .argument("<url>", "address of the server", knownAddress),
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
      .argument("<url>", "address of the server", knownAddress),
  )
    .option("--force", "also when it is needed")
    .option("--json", "one JSON object")
    .addHelpText("after", restartExamples)
    .action((url: string, options: Options) => steer(url, { what: "restart", options, io }));
  addControlOptions(
    program.command("logs").description("Show the logs of the servers and the router of serve.")
      .argument("[url]", "address of one", knownAddress),
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
      oneAddress,
      `http://127.0.0.1:${defaultControlPort}`,
    )
    .option("--api-key-env <name>", "variable that holds the servers' key", "SGLANG_API_KEY")
    .option("--admin-key-env <name>", "variable of their admin key", "SGLANG_ADMIN_API_KEY");
}

async function steer(
  given: string,
  { what, options, io }: { what: "drain" | "undrain" | "restart"; options: Options; io: CliIo },
): Promise<void> {
  const call = callOf(options, io);
  const before = await controlledFleet(call);
  // The router is restarted, too, but nobody drains it.
  const { url } = memberAt(given, what === "restart" ? membersOf(before) : before.servers);
  const fleet = await order(call, what, { url, force: options.force === true });
  const { url: server, ...state } = memberAt(url, membersOf(fleet));
  const restarted = state.isDrained ? "restarted; it stays drained" : "restarted";
  const done = { drain: "drained", undrain: "comes back", restart: restarted }[what];
  io.out(options.json ? jsonLine({ server, ...state }) : `${url}: ${done}\n`);
}

/** An address as the fleet's are written; one that is none gets the list of those. */
const knownAddress = (value: string): string => canonicalUrl(value);

/** The member at an address. */
function memberAt(given: string, members: readonly ControlledServer[]): ControlledServer {
  const member = members.find(({ url }) => canonicalUrl(url) === given);
  if (member !== undefined) return member;
  const known = members.map((one) => one.url).join(", ");
  throw new ValidationError(`${given} is not of that fleet; these are: ${known}`);
}

async function logs(given: string | undefined, options: Options, io: CliIo): Promise<void> {
  const members = membersOf(await controlledFleet(callOf(options, io)));
  const chosen = given === undefined ? members : [memberAt(given, members)];
  const tails = new Map(chosen.map((member) => [member.url, new LogTail(member)]));
  const isOne = tails.size === 1;
  const show = (tail: LogTail, text: string) => {
    if (text !== "") io.out(isOne ? text : `==> ${tail.url} <==\n${text}`);
  };
  for (const tail of tails.values()) show(tail, await tail.last(options.lines));
  while (options.follow) {
    await sleep(FOLLOW_MS, { signal: io.signal });
    // Who was started again may have another file.
    for (const member of membersOf(await controlledFleet(callOf(options, io)))) {
      const tail = tails.get(member.url);
      if (tail === undefined) continue;
      show(tail, await tail.more());
      if (tail.follow(member)) show(tail, await tail.more());
    }
  }
}
