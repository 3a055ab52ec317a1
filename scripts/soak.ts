/**
 * Collects for a long time from two servers whose weights are synced again and again and whose
 * connections are cut, and looks at what must not happen: rows lost or doubled, a ledger that does
 * not add up, memory and file descriptors that grow.
 *
 *     deno task soak [--minutes 20] [--warm-up 10] [--real] [--verbose]
 *
 * The servers are embedded ones in a process of their own, or with `--real` two real ones (SGLang
 * 0.5.16 and 0.5.23 on a CPU), so that the memory is the collector's. It is looked at every two
 * seconds, after a collection of what is garbage; of each minute the middle counts, and the warming
 * up is left out. The report has the slopes with their intervals: a line holds when the whole
 * interval is below it.
 */
import {
  AsyncSGLang,
  EnvironmentPool,
  LLMCollector,
  type RolloutBatch,
  safetensors,
  SGLangWeightSyncScheme,
  SGLangWrapper,
  WeightSyncError,
} from "../mod.ts";
import { Books } from "./soak/books.ts";
import { FaultyEnvironment, MAX_TURNS } from "./soak/faulty_environment.ts";
import { type Resources, resourcesAt } from "./soak/resources.ts";
import { serveEmbedded, startEmbedded, startReal } from "./soak/servers.ts";
import { minuteMedians, trendOf } from "./soak/trend.ts";

const SAMPLE_MS = 2_000;
const SYNC_MS = 15_000;
const ABORT_MS = 7_000;
/** Rows of a batch; small, so that the reader is busy. */
const BATCH = 64;
/** MiB that may be added in a minute. */
const RSS_LINE = 0.2;
/**
 * Open files that may be added in a minute. A few idle connections come and go; one that each sync or
 * each request given up left behind would be four or eight.
 */
const FILES_LINE = 0.2;
/** Minutes below which memory is not judged. */
const LEAST_MINUTES = 10;

if (Deno.args[0] === "serve") await serveEmbedded(Deno.args.slice(1));
else await soak(minutesOf("--minutes", 20), minutesOf("--warm-up", 10));

async function soak(minutes: number, warmUp: number): Promise<void> {
  await using servers = await (Deno.args.includes("--real") ? startReal() : startEmbedded());
  const { urls, checkpoints } = servers;
  await using engine = await AsyncSGLang.connect(urls);
  const policy = new SGLangWrapper(engine, {
    tokenizer: checkpoints[0],
    // The same answers again and again: pieces of new texts are remembered, 16 MiB of them at most,
    // and would look like growth until then.
    generateKwargs: { maxNewTokens: 16, temperature: 0 },
  });
  const scheme = new SGLangWeightSyncScheme({ engine, transport: "gloo" });
  await using sender = scheme.createSender();
  await sender.initAllWorkersGroup();

  const started = performance.now();
  const end = started + (warmUp + minutes) * 60_000;
  const books = new Books();
  let faults = 0;
  const collector = new LLMCollector(
    new EnvironmentPool(() => new FaultyEnvironment(books, () => faults++), { size: 16 }),
    {
      policy,
      dialogTurnsPerBatch: BATCH,
      maxTurns: MAX_TURNS,
      dialogRetries: 20,
      yieldCompletedTrajectories: true,
    },
  );
  const syncFaults: string[] = [];
  const syncing = repeat(SYNC_MS, end, async (i) => {
    const checkpoint = checkpoints[(i + 1) % 2]!;
    try {
      await sender.updateWeights(safetensors(checkpoint), { version: `step-${i}` });
    } catch (error) {
      // On a machine that others hold a server may miss a deadline. The next sync repairs it, and
      // no row may be lost by that either.
      if (!(error instanceof WeightSyncError)) throw error;
      syncFaults.push(error.message.slice(0, 200));
    }
  });
  const aborting = repeat(ABORT_MS, end, async () => {
    // A caller that gives up: its requests end here and on the servers, and nothing stays behind.
    await engine.generate(["x", "y"], { maxNewTokens: 64, timeoutMs: 5, n: 1 }).catch(() => {});
  });
  const samples: Resources[] = [];
  const watching = repeat(SAMPLE_MS, end, () => {
    const now = resourcesAt((performance.now() - started) / 60_000, servers.pids);
    samples.push(now);
    // deno-lint-ignore no-console
    if (Deno.args.includes("--verbose")) console.log(JSON.stringify(now));
    return Promise.resolve();
  });
  let batches = 0;
  const take = (batch: RolloutBatch) => {
    for (const { dialog, rows } of batch.trajectories()) books.take(dialog, rows.length);
    batches++;
  };
  for await (const batch of collector) {
    take(batch);
    if (performance.now() > end) break;
  }
  await collector.asyncShutdown();
  for (let rest = collector.drain(); rest !== null; rest = collector.drain()) take(rest);
  const syncs = await syncing;
  await Promise.all([aborting, watching]);
  const { stats } = collector;
  // Nothing runs any more, so that nothing may be left over.
  const unaccounted = {
    dialogs: stats.dialogsStarted - stats.dialogsCompleted - stats.dialogsFailed -
      stats.dialogsAbandoned - stats.retriesWaiting,
    turns: stats.turns - stats.rowsYielded - stats.rowsStale - stats.rowsUnused,
    rows: stats.rowsYielded - books.rows,
    begun: books.begun - stats.dialogsStarted,
  };
  const late = samples.filter(({ minute }) => minute >= warmUp);
  const trend = (name: Exclude<keyof Resources, "minute">) =>
    trendOf(minuteMedians(late.map((one) => ({ minute: one.minute, value: one[name] }))));
  const trends = {
    rssMiB: trend("rss"),
    ownMiB: trend("own"),
    heapUsedMiB: trend("heapUsed"),
    externalMiB: trend("external"),
    files: trend("files"),
    serversMiB: trend("servers"),
  };
  const { rows, dialogs, lost, doubled, misshapen } = books;
  const broken = [
    ...Object.entries({ lost, doubled, misshapen, ...unaccounted })
      .filter(([, count]) => count !== 0).map(([name]) => name),
    ...(minutes >= LEAST_MINUTES && !(trends.rssMiB.to < RSS_LINE) ? ["rssMiB"] : []),
    ...(minutes >= LEAST_MINUTES && !(trends.files.to < FILES_LINE) ? ["files"] : []),
  ];
  const report = {
    minutes,
    warmUp,
    servers: servers.kind,
    syncs,
    syncFaults,
    batches,
    rows,
    dialogs,
    faults,
    lost,
    doubled,
    misshapen,
    unaccounted,
    trends,
    lines: { rssMiB: RSS_LINE, files: FILES_LINE },
    rssByMinute: minuteMedians(samples.map(({ minute, rss }) => ({ minute, value: rss })))
      .map(({ value }) => value),
    files: [Math.min(...late.map((one) => one.files)), Math.max(...late.map((one) => one.files))],
    stats,
    broken,
  };
  // deno-lint-ignore no-console
  console.log(JSON.stringify(report, null, 2));
  if (broken.length > 0) Deno.exitCode = 1;
}

/** Does something again and again until the end; how often. */
async function repeat(
  ms: number,
  end: number,
  work: (i: number) => Promise<void>,
): Promise<number> {
  for (let i = 0;; i++) {
    if (performance.now() + ms > end) return i;
    await new Promise((resolve) => setTimeout(resolve, ms));
    await work(i);
  }
}

function minutesOf(name: string, otherwise: number): number {
  const at = Deno.args.indexOf(name);
  const minutes = at < 0 ? otherwise : Number(Deno.args[at + 1]);
  if (minutes > 0) return minutes;
  throw new Error(`${name} must be a number above 0`);
}
