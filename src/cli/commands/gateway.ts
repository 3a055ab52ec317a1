import { type Command, InvalidArgumentError, Option } from "commander";
import { RolloutBatch, writeJsonLines } from "../../collector/mod.ts";
import { type EndedSession, RecordingGateway, type ServedModel } from "../../gateway/mod.ts";
import { ValidationError } from "../../errors.ts";
import type { Logger } from "../../internal/logger.ts";
import { SGLangWrapper } from "../../policy/mod.ts";
import { addFleetOptions, connectFleet, type FleetOptions, wholeNumber } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { jsonLine } from "../json_lines.ts";
import { requireWritable } from "../local_files.ts";
import { inFlags } from "../option_words.ts";
import type { CommandContext } from "../program.ts";
import { untilStopped } from "../until_stopped.ts";

interface Options extends FleetOptions {
  readonly host: string;
  readonly port: number;
  readonly record?: string | undefined;
  readonly modelName: string;
  readonly adapter: ReadonlyMap<string, string>;
  readonly gatewayKeyEnv: string;
  readonly json?: boolean | undefined;
}

const examples = `
Examples:
  sglang-rl gateway -s http://127.0.0.1:30000 --record sessions.jsonl
  sglang-rl gateway -s http://127.0.0.1:30000 --model-name base --adapter left --adapter old=left@3
  curl -X POST http://127.0.0.1:40000/sessions                 opens a session: its key and base URL

Agents take the session's base URL and key as those of OpenAI. Each session that ends is a line here,
and with --record its rows are lines of that file (sglang-rl.rollout/2).`;

/** Adds `gateway`. */
export function addGateway(program: Command, { io }: CommandContext): void {
  addFleetOptions(
    program.command("gateway")
      .description("Serve agents of OpenAI's and Anthropic's APIs, and record what they do.")
      .option("-p, --port <port>", "port to listen on (default: a free one)", wholeNumber(0), 0)
      .option("--host <address>", "address to listen on", "127.0.0.1")
      .option("--record <file>", "write the rows of each session that ends to this file")
      .option("--model-name <name>", "name of the policy, beside adapters", "policy")
      .addOption(
        new Option(
          "--adapter <name>",
          "serve a LoRA adapter by its name, or as NAME=ADAPTER; may be repeated. Other names of " +
            "models are refused then",
        ).argParser(addAdapter).default(new Map(), "none"),
      )
      .option(
        "--gateway-key-env <name>",
        "variable that holds the key for opening sessions",
        "SGLANG_GATEWAY_KEY",
      )
      .option("--json", "one JSON object for each session"),
  )
    .addHelpText("after", examples)
    .action((options: Options) => serve(options, io));
}

/** Adds `left`, the newest version of that adapter, or `old=left@3`, a version under a name of its own. */
function addAdapter(text: string, before: ReadonlyMap<string, string>): Map<string, string> {
  const [name = "", lora = name, ...rest] = text.split("=");
  if (name === "" || lora === "" || rest.length > 0) {
    throw new InvalidArgumentError("Give the name of an adapter, or NAME=ADAPTER.");
  }
  if (before.has(name)) throw new InvalidArgumentError(`"${name}" is given twice.`);
  return new Map(before).set(name, lora);
}

function checkNames({ modelName, adapter }: Options): void {
  if (adapter.has(modelName)) {
    throw new ValidationError(
      `"${modelName}" is the policy's name too: give it another by --model-name, or the adapter by ` +
        "--adapter NAME=ADAPTER",
    );
  }
}

/** The models by name; none where every name means the policy. */
function modelsOf({ modelName, adapter }: Options, policy: ServedModel) {
  if (adapter.size === 0) return {};
  const adapters = [...adapter].map(([name, lora]) => [name, { lora }] as const);
  return { models: Object.fromEntries([[modelName, policy], ...adapters]) };
}

async function serve(options: Options, io: CliIo): Promise<void> {
  checkNames(options);
  if (options.record !== undefined) await requireWritable(options.record);
  await using engine = await connectFleet(options, io);
  await using policy = new SGLangWrapper(engine);
  const models = modelsOf(options, policy);
  const failed = Promise.withResolvers<Error>();
  // One file: sessions that end together are written one after the other.
  let written = Promise.resolve();
  const onSession = (ended: EndedSession) => {
    io.out(options.json ? jsonLine(told(ended)) : `${shown(ended)}\n`);
    const { record } = options;
    if (record === undefined || ended.rows.length === 0) return;
    const batch = new RolloutBatch({ rows: ended.rows, shape: [ended.rows.length] });
    written = written.then(() => writeJsonLines(record, batch, { append: true }));
    written.catch(failed.resolve);
  };
  const adminKey = io.env(options.gatewayKeyEnv);
  {
    await using gateway = await RecordingGateway.listen(policy, {
      ...models,
      hostname: options.host,
      port: options.port,
      onSession,
      logger: loggerOf(io),
      ...(adminKey === undefined ? {} : { adminKey }),
    });
    const key = adminKey === undefined && gateway.adminKey !== null
      ? ` The key for opening sessions is ${gateway.adminKey}`
      : "";
    io.err(`Gateway at ${gateway.url}; POST /sessions opens a session.${key}\n`);
    await untilStopped(failed.promise, io.signal);
    io.err("Stopping\n");
  }
  await written;
}

function told({ id, end, reward, rows }: EndedSession): Record<string, unknown> {
  const tokens = rows.reduce((sum, { responseIds }) => sum + responseIds.length, 0);
  const branches = new Set(rows.map(({ branch }) => branch)).size;
  return { session: id, end, turns: rows.length, branches, tokens, reward };
}

function shown(ended: EndedSession): string {
  const { session, end, turns, branches, tokens, reward } = told(ended);
  return `${session} ${end}: ${turns} turns, ${branches} branches, ${tokens} tokens, reward ${reward}`;
}

function loggerOf(io: CliIo): Logger {
  const say = (message: string) => io.err(`${inFlags(message, "gateway")}\n`);
  return { debug() {}, info() {}, warn: say, error: say };
}
