/**
 * Brings running SGLang servers to the weights of a checkpoint folder, without restarting them.
 *
 *     deno run --allow-net --allow-read examples/refresh_fleet.ts \
 *       --server http://127.0.0.1:30000 --server http://127.0.0.1:30001 checkpoints/step-20
 *
 * With `--watch` the folder holds checkpoint folders; every new one is pushed as soon as it is
 * complete, and Ctrl-C ends.
 */
// deno-lint-ignore-file no-console
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  progressBar,
  safetensors,
  SGLangError,
  type SGLangWeightSender,
  SGLangWeightSyncScheme,
} from "@sglang-rl/sglang-rl";

const USAGE =
  `usage: refresh_fleet.ts --server URL [--server URL]... [--watch] [--transport NAME] FOLDER`;
const WATCH_INTERVAL_MS = 2000;

interface Arguments {
  readonly servers: readonly string[];
  readonly folder: string;
  readonly watch: boolean;
  readonly transport: "auto" | "nccl" | "gloo" | "disk";
}

function readArguments(): Arguments {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    allowPositionals: true,
    options: {
      server: { type: "string", multiple: true },
      watch: { type: "boolean", default: false },
      transport: { type: "string", default: "auto" },
    },
  });
  const { server: servers = [], watch, transport } = values;
  const [folder] = positionals;
  if (servers.length === 0 || folder === undefined || positionals.length > 1) {
    throw new Error(USAGE);
  }
  return { servers, folder, watch, transport: transport as Arguments["transport"] };
}

async function push(sender: SGLangWeightSender, folder: string, signal: AbortSignal) {
  const report = await sender.updateWeights(safetensors(folder), {
    onProgress: progressBar(),
    signal,
  });
  const megabytes = (report.sizeBytes / 1e6).toFixed(1);
  console.log(
    `${folder}: version ${report.version} on ${report.servers.length} servers, ${megabytes} MB in ` +
      `${report.durationMs.toFixed(0)} ms by ${report.transport}`,
  );
}

/** Folders within `parent` that hold safetensors, oldest first, each once it no longer grows. */
async function* newCheckpoints(parent: string, signal: AbortSignal): AsyncGenerator<string> {
  const done = new Set<string>();
  let sizesBefore = new Map<string, number>();
  while (!signal.aborted) {
    const sizes = new Map<string, number>();
    for await (const entry of Deno.readDir(parent)) {
      if (!entry.isDirectory) continue;
      const folder = join(parent, entry.name);
      if (!done.has(folder)) sizes.set(folder, await weightBytes(folder));
    }
    for (const [folder, bytes] of [...sizes].sort()) {
      if (bytes === 0 || sizesBefore.get(folder) !== bytes) continue;
      done.add(folder);
      yield folder;
    }
    sizesBefore = sizes;
    await new Promise((resolve) => setTimeout(resolve, WATCH_INTERVAL_MS));
  }
}

async function weightBytes(folder: string): Promise<number> {
  let bytes = 0;
  for await (const entry of Deno.readDir(folder)) {
    if (!entry.name.endsWith(".safetensors")) continue;
    bytes += (await Deno.stat(join(folder, entry.name))).size;
  }
  return bytes;
}

async function main(): Promise<void> {
  const { servers, folder, watch, transport } = readArguments();
  const stop = new AbortController();
  Deno.addSignalListener("SIGINT", () => stop.abort(new Error("interrupted")));
  const logger = {
    debug() {},
    info: (message: string) => console.error(message),
    warn: (message: string) => console.error(`warning: ${message}`),
    error: (message: string) => console.error(`error: ${message}`),
  };
  const scheme = new SGLangWeightSyncScheme({ workers: servers, transport, logger });
  await using sender = scheme.createSender();
  await sender.initAllWorkersGroup(undefined, { signal: stop.signal });
  if (!watch) return await push(sender, folder, stop.signal);
  for await (const checkpoint of newCheckpoints(folder, stop.signal)) {
    try {
      await push(sender, checkpoint, stop.signal);
    } catch (error) {
      if (stop.signal.aborted || !(error instanceof SGLangError)) throw error;
      // The next checkpoint repairs what this one left.
      console.error(describe(error));
    }
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

if (import.meta.main) {
  try {
    await main();
    Deno.exit(0);
  } catch (error) {
    console.error(describe(error));
    Deno.exit(1);
  }
}
