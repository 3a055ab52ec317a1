import type { Command } from "commander";
import { EmbeddedServer, type EmulatedVersion, makeTinyCheckpoint } from "../../embedded/mod.ts";
import { ValidationError } from "../../errors.ts";
import { defaultRules } from "../../fleet/mod.ts";
import { asPermissionError } from "../../internal/permission.ts";
import { flagKeys } from "../../server/options.ts";
import { defaultControlPort } from "../control_client.ts";
import { keysOf, portNumber, repeatable, wholeNumber } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { jsonLine } from "../json_lines.ts";
import { requireLogFolder, requireModel } from "../local_files.ts";
import type { CommandContext } from "../program.ts";
import { ProgressLine } from "../progress.ts";
import { shown, type Started, startFleet } from "../serve/fleet.ts";
import { untilStopped } from "../until_stopped.ts";

interface Options {
  readonly replicas: number;
  readonly router?: boolean | undefined;
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly tp: number;
  readonly device?: string | undefined;
  readonly dtype?: string | undefined;
  readonly python?: string | undefined;
  readonly routerPython?: string | undefined;
  readonly logDir?: string | undefined;
  readonly supervise: boolean;
  readonly minHealthy: number;
  readonly restartLimit: number;
  readonly controlPort?: number | undefined;
  readonly arg: readonly string[];
  readonly embedded?: boolean | undefined;
  readonly embeddedVersion: string;
  readonly apiKeyEnv: string;
  readonly adminKeyEnv: string;
  readonly json?: boolean | undefined;
}

const examples = `
Examples:
  sglang-rl serve Qwen/Qwen2.5-0.5B-Instruct --port 30000
  sglang-rl serve checkpoints/step-0 -n 4 --tp 2 --arg mem-fraction-static=0.8
  sglang-rl serve checkpoints/step-0 --device cpu --python ~/sglang/bin/python
  sglang-rl serve --embedded --port 30000          the test double, on a tiny checkpoint of its own

The servers end with this command, however it ends. One that dies is started again and gets the
weights of the last "sync" before it serves. Their keys, if they should have any, come from
the variables named by --api-key-env and --admin-key-env.`;

const controlHelp = "port for drain, restart, logs and sync of this machine " +
  `(default: ${defaultControlPort}, or a free one)`;

/** Adds `serve`. */
export function addServe(program: Command, { io }: CommandContext): void {
  program.command("serve")
    .description("Start servers for a model, with the router in front of several.")
    .argument("[model]", "folder or Hugging Face name")
    .option("-n, --replicas <count>", "number of servers", wholeNumber(1), 1)
    .option("--router", "put the router in front, even of one server")
    .option("--no-router", "no router in front of several servers")
    .option("-p, --port <port>", "port of the router, or of the only server", portNumber)
    .option("--host <address>", "address to listen on (default: 127.0.0.1)")
    .option("--tp <count>", "tensor-parallel ranks of each server", wholeNumber(1), 1)
    .option("--device <name>", '"cuda" or "cpu" (default: what SGLang finds)')
    .option("--dtype <name>", "element type, such as bfloat16 (default: the checkpoint's)")
    .option("--log-dir <folder>", "folder for the logs (default: temporary files)")
    .option("--supervise", "start servers that die again, with the fleet's weights", true)
    .option("--no-supervise", "end with the first server that dies")
    .option("--min-healthy <count>", "tell when fewer servers are healthy", wholeNumber(0), 1)
    .option(
      "--restart-limit <count>",
      "restarts of a server without a steady minute between, before it is given up",
      wholeNumber(0),
      defaultRules.restartLimit,
    )
    .option("--control-port <port>", controlHelp, portNumber)
    .option("--python <path>", "Python that has SGLang (default: $SGLANG_PYTHON, python3)")
    .option("--router-python <path>", "Python that has the router (default: the same)")
    .addOption(repeatable("--arg <name=value>", "further flag of SGLang; may be repeated"))
    .option("--embedded", "the test double instead of SGLang: no Python, no GPU")
    .option("--embedded-version <version>", "what the test double behaves like", "0.5.16")
    .option("--api-key-env <name>", "variable that holds the key to set", "SGLANG_API_KEY")
    .option("--admin-key-env <name>", "variable of the admin key to set", "SGLANG_ADMIN_API_KEY")
    .option("--json", "one JSON object when the servers are ready")
    .addHelpText("after", examples)
    .action((model: string | undefined, options: Options) => serve(model, options, io));
}

async function serve(model: string | undefined, options: Options, io: CliIo): Promise<void> {
  await using started = await start(model, options, io);
  io.out(options.json ? jsonLine(started.told) : shown(started));
  await untilStopped(started.failed, io.signal);
  io.err("Stopping\n");
}

async function start(model: string | undefined, options: Options, io: CliIo): Promise<Started> {
  if (options.embedded) return await startEmbedded(model, options, io);
  if (model === undefined) {
    throw new ValidationError("Give a model, or --embedded for the test double");
  }
  const hasRouter = options.router ?? options.replicas > 1;
  if (!hasRouter && options.replicas > 1 && options.port !== undefined) {
    throw new ValidationError("--port needs the router or a single server");
  }
  await requireModel(model, io.signal);
  if (options.logDir !== undefined) await requireLogFolder(options.logDir);
  using line = new ProgressLine(io);
  return await startFleet({
    model,
    io,
    controlPort: options.controlPort,
    isSupervised: options.supervise,
    minHealthy: options.minHealthy,
    restartLimit: options.restartLimit,
    launch: {
      ...serverOptions(options, io, line),
      port: options.port,
      numReplicas: options.replicas,
      logFolder: options.logDir,
      router: hasRouter && {
        host: options.host,
        ...(options.routerPython === undefined ? {} : { python: options.routerPython }),
      },
    },
  });
}

function serverOptions(options: Options, io: CliIo, line: ProgressLine) {
  const { device } = options;
  if (device !== undefined && device !== "cpu" && device !== "cuda") {
    throw new ValidationError(`--device must be cuda or cpu, but is ${device}`);
  }
  return {
    host: options.host,
    tpSize: options.tp,
    device,
    dtype: options.dtype,
    python: options.python,
    ...furtherFlags(options.arg),
    ...keysOf(options, io),
    onProgress: (
      { elapsedMs, lastLine = "" }: { elapsedMs: number; lastLine?: string | undefined },
    ) => line.show(`starting, ${(elapsedMs / 1000).toFixed(0)} s: ${lastLine}`),
    signal: io.signal,
  } as const;
}

/** Flags given with `--arg`: those that the library has an option for, and the rest as they are. */
function furtherFlags(given: readonly string[]): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  const args: Record<string, string | boolean> = {};
  for (const flag of given) {
    const [name = "", ...rest] = flag.replace(/^--/, "").split("=");
    const value = rest.length === 0 ? true : rest.join("=");
    const owner = ownOptions.get(name);
    if (owner !== undefined) {
      throw new ValidationError(`--arg ${name} is what ${owner} of this command is for`);
    }
    if (name === "nccl-port") {
      throw new ValidationError("--arg nccl-port is chosen anew for each server: leave it out");
    }
    const key = name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (optionNames.has(key)) options[key] = typed(value);
    else args[name] = value;
  }
  return { ...options, args };
}

/** Flags of SGLang that this command has in another form. */
const ownOptions: ReadonlyMap<string, string> = new Map([
  ["model", "the first argument"],
  ["model-path", "the first argument"],
  ["host", "--host"],
  ["port", "--port"],
  ["tp", "--tp"],
  ["tp-size", "--tp"],
  ["tensor-parallel-size", "--tp"],
  ["device", "--device"],
  ["dtype", "--dtype"],
  ["api-key", "--api-key-env"],
  ["admin-api-key", "--admin-key-env"],
]);

const optionNames: ReadonlySet<string> = new Set(flagKeys);

function typed(value: string | true): string | number | boolean {
  if (value === true || value === "true") return true;
  if (value === "false") return false;
  return value !== "" && Number.isFinite(Number(value)) ? Number(value) : value;
}

async function startEmbedded(
  model: string | undefined,
  options: Options,
  io: CliIo,
): Promise<Started> {
  if (options.replicas > 1 && options.port !== undefined) {
    throw new ValidationError("--port takes one server; with --embedded there is no router");
  }
  await using stack = new AsyncDisposableStack();
  if (model !== undefined) await requireModel(model, io.signal);
  const folder = model ?? await ownCheckpoint(stack);
  const servers: string[] = [];
  for (let i = 0; i < options.replicas; i++) {
    const server = await EmbeddedServer.start({
      model: folder,
      hostname: options.host,
      port: options.port,
      version: options.embeddedVersion as EmulatedVersion,
    });
    stack.use(server);
    servers.push(server.url);
  }
  const owned = stack.move();
  return {
    told: { url: servers[0]!, servers, router: null, routerMetrics: null, control: null, logs: [] },
    failed: new Promise(() => {}),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A tiny checkpoint that goes away with the stack. */
async function ownCheckpoint(stack: AsyncDisposableStack): Promise<string> {
  let folder: string;
  try {
    folder = await Deno.makeTempDir({ prefix: "sglang-rl-embedded-" });
  } catch (error) {
    throw asPermissionError(error, "--allow-write=/tmp", "make a folder for a tiny checkpoint");
  }
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  await makeTinyCheckpoint(folder);
  return folder;
}
