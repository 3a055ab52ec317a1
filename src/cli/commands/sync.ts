import { Option } from "commander";
import type { Command } from "commander";
import { SGLangClient } from "../../client/mod.ts";
import { SGLangError, ValidationError } from "../../errors.ts";
import { type Logger, silentLogger } from "../../internal/logger.ts";
import { safetensors } from "../../weights/source/mod.ts";
import {
  type NameCheck,
  type SGLangWeightSender,
  SGLangWeightSyncScheme,
  type VerifyLevel,
  type WeightServerState,
  type WeightSyncOptions,
  type WeightSyncReport,
} from "../../weights/mod.ts";
import { UnreadableModelError } from "../../weights/sync/names.ts";
import { TRANSPORT_NAMES, type TransportName } from "../../weights/transport/transport.ts";
import type { PauseMode } from "../../client/types.ts";
import { callOf, defaultControlPort, tellSynced } from "../control_client.ts";
import { checkpointName, servedStep, watchCheckpoints } from "../checkpoint_watch.ts";
import {
  accessOf,
  addFleetOptions,
  type FleetOptions,
  numberFrom,
  oneAddress,
  serverUrls,
  wholeNumber,
} from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { jsonLine } from "../json_lines.ts";
import { requireCheckpoint, requireFolder } from "../local_files.ts";
import { inFlags, toldBy } from "../option_words.ts";
import type { CommandContext } from "../program.ts";
import { ProgressLine } from "../progress.ts";
import { checkpointBefore } from "../rollback.ts";

interface Options extends FleetOptions {
  readonly transport: TransportName | "auto";
  readonly serversSeeDevice?: boolean;
  readonly pauseMode: PauseMode;
  readonly verify: VerifyLevel;
  readonly nameCheck: NameCheck;
  readonly only?: readonly string[] | undefined;
  readonly weightVersion?: string | undefined;
  readonly bucketMb: number;
  readonly masterAddress?: string | undefined;
  readonly diskFolder?: string | undefined;
  readonly watch?: boolean | undefined;
  readonly rollback?: number | true | undefined;
  readonly dryRun?: boolean | undefined;
  readonly allowOlder?: boolean | undefined;
  readonly interval: number;
  readonly castFloat32To?: "bfloat16" | undefined;
  readonly draft: "update" | "keep";
  readonly control: string;
  readonly json?: boolean | undefined;
}

const examples = `
Examples:
  sglang-rl sync checkpoints/step-20 -s http://127.0.0.1:30000 -s http://127.0.0.1:30001
  sglang-rl sync checkpoints -r http://127.0.0.1:30010 --watch
  sglang-rl sync checkpoints -r http://127.0.0.1:30010 --rollback      one checkpoint back
  sglang-rl sync checkpoints/step-20 -s http://127.0.0.1:30000 --dry-run
  sglang-rl sync checkpoints/step-20 -s http://gpu-1:30000 --transport disk

The version is the checkpoint's name, such as step-20; a name that the servers have already gets a
suffix. With --watch, CHECKPOINT may be a folder of checkpoints: the newest complete one is pushed,
and every newer one when it has been written. Newer is the higher number in its name, then what a
"latest" file or link names, then the later time. A push that fails is reported and the next one is
tried.

The names of the weights are compared with the model's folder that the servers tell, because a server
ignores unknown names without a word. Where that folder is not on this machine, the push goes on with
a warning; with --name-check servers it does not, with --name-check off the folder is not looked at.

With --only, the other weights of the servers stay; they must all have the same version. A serve has
no checkpoint of such a mixture: a server that it starts again gets no requests before the next sync
of all weights.`;

/** Adds `sync`. */
export function addSync(program: Command, { io }: CommandContext): void {
  addFleetOptions(
    program.command("sync")
      .description("Push a safetensors checkpoint into running servers.")
      .argument("<checkpoint>", "file or folder"),
  )
    .addOption(
      new Option("--transport <name>", "how the weights travel")
        .choices(["auto", ...TRANSPORT_NAMES]).default("auto"),
    )
    .option("--servers-see-device", "for cuda-ipc: every server sees this process's GPU")
    .addOption(
      new Option("--pause-mode <mode>", "what becomes of running requests")
        .choices(["abort", "retract", "in_place"]).default("abort"),
    )
    .addOption(
      new Option("--verify <level>", "what proves that the weights landed")
        .choices(["version", "sample", "checksum", "off"]).default("version"),
    )
    .addOption(
      new Option("--name-check <how>", "compare the weights' names with the servers' model folder")
        .choices(["servers", "where_possible", "off"]).default("where_possible"),
    )
    .addOption(
      new Option("--cast-float32-to <type>", "round float32 weights on the way")
        .choices(["bfloat16"]),
    )
    .addOption(
      new Option("--draft <how>", "what becomes of draft models")
        .choices(["update", "keep"]).default("update"),
    )
    .option(
      "--only <pattern>",
      'push only the weights with such names, "*" for any characters; may be repeated',
      (pattern: string, others: readonly string[] = []) => [...others, pattern],
    )
    .option("--weight-version <name>", "version to set (default: the checkpoint's name)")
    .option("--bucket-mb <size>", "limit of a bucket, in MiB", wholeNumber(1), 512)
    .option("--master-address <address>", "address of this machine that the servers can reach")
    .option("--disk-folder <path>", "shared folder for --transport disk")
    .option(
      "--rollback [steps]",
      "CHECKPOINT is a folder of them: push the one that is so many before the served one (1)",
      wholeNumber(1),
    )
    .option("--dry-run", "tell what would be pushed where, and push nothing")
    .option("-w, --watch", "go on with every newer checkpoint until Ctrl-C")
    .option("--allow-older", "with --watch: also push a checkpoint that is older than the last")
    .option("--interval <seconds>", "pause between two looks at the folder", numberFrom(0.1), 5)
    .option(
      "--control <url>",
      "control endpoint of a serve, which then refits servers from the checkpoint",
      oneAddress,
      `http://127.0.0.1:${defaultControlPort}`,
    )
    .option("--json", "one JSON object on a line for each push")
    .addHelpText("after", examples)
    .action((checkpoint: string, options: Options) => sync(checkpoint, options, io));
}

async function sync(given: string, options: Options, io: CliIo): Promise<void> {
  try {
    await syncOnce(given, options, io);
  } catch (error) {
    throw inOptions(error);
  }
}

/** The same error, told by the options of this command and not by those of the library. */
function inOptions(error: unknown): unknown {
  if (!(error instanceof UnreadableModelError)) return error;
  return new ValidationError(
    `${error.problem}. Mount it at the same path, or give --name-check where_possible to push all ` +
      "the same",
    { cause: error },
  );
}

/** Warnings on the error output, each once. */
function warnings(io: CliIo): Logger {
  const told = new Set<string>();
  return {
    ...silentLogger,
    warn(warning) {
      const message = inFlags(warning, "sync");
      if (told.has(message)) return;
      // A watch may run for months.
      if (told.size >= 100) told.clear();
      told.add(message);
      io.err(`${io.isTerminal ? "\r\x1b[K" : ""}warning: ${message}\n`);
    },
  };
}

async function syncOnce(given: string, options: Options, io: CliIo): Promise<void> {
  if (options.watch && (options.rollback !== undefined || options.dryRun)) {
    throw new ValidationError("--watch goes with neither --rollback nor --dry-run");
  }
  if (options.only !== undefined && options.rollback !== undefined) {
    throw new ValidationError(
      "--rollback goes without --only: name the checkpoint whose part is to be pushed",
    );
  }
  const access = accessOf(options, io);
  await lookAround(given, options, io);
  // Not through an engine, which wants healthy servers: a push is what can repair a paused one.
  const settings = {
    workers: await serverUrls(options, io),
    ...access,
    transport: options.transport,
    serversSeeDevice: options.serversSeeDevice,
    pauseMode: options.pauseMode,
    verify: options.verify,
    nameCheck: options.nameCheck,
    castFloat32To: options.castFloat32To,
    draft: options.draft,
    // Whoever syncs by hand reads at once that a server is paused.
    whenPaused: "keep" as const,
    logger: warnings(io),
    bucketBytes: options.bucketMb * 2 ** 20,
    masterAddress: options.masterAddress,
    ...(options.diskFolder === undefined ? {} : { disk: { folder: options.diskFolder } }),
  };
  // Which flags go together is checked when they are read here, not by the compiler.
  const scheme = new SGLangWeightSyncScheme(settings as WeightSyncOptions);
  await using sender = scheme.createSender();
  // Asks what they are; nothing is changed by it.
  const servers = await sender.receiver.probe({ signal: io.signal });
  const versions = await versionsOf(servers.map(({ url }) => url), access, io.signal);
  const checkpoint = options.rollback === undefined ? given : await checkpointBefore(given, {
    versions,
    steps: options.rollback === true ? 1 : options.rollback,
    signal: io.signal,
  });
  if (options.dryRun) return await tellPlan(sender, { checkpoint, servers, versions, options, io });
  await sender.initAllWorkersGroup(undefined, { signal: io.signal });
  if (!options.watch) return await push(sender, { checkpoint, options, io });
  io.err(`Watching ${checkpoint}; Ctrl-C ends it\n`);
  const watch = {
    intervalMs: options.interval * 1000,
    signal: io.signal,
    servedStep: servedStep(versions),
    allowOlder: options.allowOlder,
    tell: (message: string) => io.err(`${message}\n`),
  };
  for await (const folder of watchCheckpoints(checkpoint, watch)) {
    try {
      await push(sender, { checkpoint: folder, options, io });
    } catch (error) {
      if (io.signal.aborted || !(error instanceof SGLangError)) throw error;
      io.err(`error: ${folder} was not pushed: ${toldBy("sync", inOptions(error))}\n`);
    }
  }
}

/** Finds what is wrong on this machine, before any server is asked. */
async function lookAround(given: string, options: Options, io: CliIo): Promise<void> {
  const { watch, rollback } = options;
  if (!watch && rollback === undefined) return await requireCheckpoint(given, io.signal);
  if (await requireFolder(given, io.signal)) return;
  if (!watch) throw new ValidationError(`${given} does not exist`);
  io.err(`${given} is not there yet; it is waited for\n`);
}

/** The weight version that each server tells. */
async function versionsOf(
  urls: readonly string[],
  access: ReturnType<typeof accessOf>,
  signal: AbortSignal,
): Promise<(string | null)[]> {
  return await Promise.all(urls.map(async (url) => {
    await using client = new SGLangClient({ url, ...access });
    return (await client.modelInfo({ signal })).weightVersion;
  }));
}

interface Plan {
  readonly checkpoint: string;
  readonly servers: readonly WeightServerState[];
  readonly versions: readonly (string | null)[];
  readonly options: Options;
  readonly io: CliIo;
}

/** What a sync would do; the checkpoint's headers are read, and compared as the sync would. */
async function tellPlan(
  sender: SGLangWeightSender,
  { checkpoint, servers, versions, options, io }: Plan,
): Promise<void> {
  const call = { signal: io.signal, only: options.only };
  const check = await sender.checkWeights(safetensors(checkpoint), call);
  const plan = {
    checkpoint,
    version: options.weightVersion ?? checkpointName(checkpoint),
    ...check,
    servers: servers.map(({ url, tpSize }, i) => ({
      server: url,
      tpSize,
      weightVersion: versions[i],
    })),
  };
  if (options.json) return io.out(jsonLine(plan));
  io.out(
    `would push ${plan.checkpoint} as ${plan.version}: ${plan.tensors} tensors, ${
      (plan.sizeBytes / 1e6).toFixed(1)
    } MB by ${plan.transport}\n`,
  );
  for (const { server, weightVersion } of plan.servers) {
    io.out(`  to ${server}, which has ${weightVersion ?? "no version"}\n`);
  }
}

async function push(
  sender: SGLangWeightSender,
  { checkpoint, options, io }: { checkpoint: string; options: Options; io: CliIo },
): Promise<void> {
  let report: WeightSyncReport;
  {
    using line = new ProgressLine(io);
    report = await sender.updateWeights(safetensors(checkpoint), {
      version: options.weightVersion ?? checkpointName(checkpoint),
      only: options.only,
      onProgress: ({ message, bytesDone, bytesTotal }) =>
        line.show(
          `sync: ${message}, ${(bytesDone / 1e6).toFixed(1)} of ${
            (bytesTotal / 1e6).toFixed(1)
          } MB`,
        ),
      signal: io.signal,
    });
  }
  const leftOut = await tellSynced(callOf(options, io), {
    version: report.version,
    checkpoint: report.part === undefined
      ? await Deno.realPath(checkpoint).catch(() => checkpoint)
      : null,
    servers: report.servers.map(({ url }) => url),
  });
  for (const { url, state, reason } of leftOut) {
    io.err(
      `warning: ${url} was not synced; it is ${state} (${reason}) and gets no requests until its ` +
        "serve has brought it these weights\n",
    );
  }
  const notSynced = leftOut.map(({ url }) => url);
  io.out(options.json ? jsonLine(record(checkpoint, report, notSynced)) : shown(report));
}

function record(
  checkpoint: string,
  report: WeightSyncReport,
  notSynced: readonly string[],
): Record<string, unknown> {
  return {
    checkpoint,
    version: report.version,
    transport: report.transport,
    servers: report.servers.map(({ url }) => url),
    skipped: report.skipped,
    notSynced,
    paused: pausedIn(report),
    tensors: report.tensors,
    buckets: report.buckets,
    sizeBytes: report.sizeBytes,
    notSent: report.notSent,
    ...(report.part && { only: report.part.only, baseVersion: report.part.baseVersion }),
    cacheFlushed: report.cacheFlushed,
    verified: report.verified,
    durationMs: Math.round(report.durationMs),
  };
}

/** Addresses of those that somebody had paused. */
function pausedIn({ servers }: WeightSyncReport): string[] {
  return servers.filter(({ paused }) => paused).map(({ url }) => url);
}

function shown(report: WeightSyncReport): string {
  const { version, tensors, sizeBytes, servers, transport, durationMs, skipped, part } = report;
  const left = skipped.length === 0 ? "" : `; skipped ${skipped.join(", ")}`;
  const over = part === undefined ? "" : ` over ${part.baseVersion}`;
  return `version ${version}${over}: ${tensors} tensors, ${(sizeBytes / 1e6).toFixed(1)} MB to ` +
    `${servers.length} server(s) by ${transport} in ${(durationMs / 1000).toFixed(2)} s${left}\n`;
}
