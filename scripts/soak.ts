/**
 * Collects for a long time from two servers whose weights are synced again and again and whose
 * connections are cut, and looks at what must not happen: rows lost or doubled, a ledger that does
 * not add up, memory and file descriptors that grow.
 *
 *     deno task soak [--minutes 20] [--verbose]
 *
 * The servers are embedded ones in a process of their own, so that the memory is the collector's.
 */
import {
  AsyncSGLang,
  EnvironmentPool,
  LLMCollector,
  type RolloutBatch,
  safetensors,
  SGLangWeightSyncScheme,
  SGLangWrapper,
} from "../mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../src/embedded/mod.ts";
import { readLines } from "../src/internal/lines.ts";
import { Books } from "./soak/books.ts";
import { FaultyEnvironment, MAX_TURNS } from "./soak/faulty_environment.ts";
import { growth, type Resources, resourcesAt } from "./soak/resources.ts";

const SAMPLE_MS = 10_000;
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
const FILES_LINE = 0.5;

if (Deno.args[0] === "serve") await serve(Deno.args.slice(1));
else await soak(minutesOf(Deno.args));

async function serve(folders: readonly string[]): Promise<void> {
  for (const _ of [0, 1]) {
    const server = await EmbeddedServer.start({ model: folders[0]! });
    // deno-lint-ignore no-console
    console.log(server.url);
  }
}

async function soak(minutes: number): Promise<void> {
  const folder = await Deno.makeTempDir();
  const checkpoints = [`${folder}/a`, `${folder}/b`];
  for (const [seed, path] of checkpoints.entries()) await makeTinyCheckpoint(path, { seed });
  await using host = startHost(checkpoints);
  const urls = await host.urls();
  await using engine = await AsyncSGLang.connect(urls);
  const policy = new SGLangWrapper(engine, {
    tokenizer: checkpoints[0]!,
    // The same answers again and again: pieces of new texts are remembered, 16 MiB of them at most,
    // and would look like growth until then.
    generateKwargs: { maxNewTokens: 16, temperature: 0 },
  });
  const scheme = new SGLangWeightSyncScheme({ engine, transport: "gloo" });
  await using sender = scheme.createSender();
  await sender.initAllWorkersGroup();

  const end = performance.now() + minutes * 60_000;
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
  const syncing = repeat(SYNC_MS, end, async (i) => {
    await sender.updateWeights(safetensors(checkpoints[i % 2]!), { version: `step-${i}` });
  });
  const aborting = repeat(ABORT_MS, end, async () => {
    // A caller that gives up: its requests end here and on the servers, and nothing stays behind.
    await engine.generate(["x", "y"], { maxNewTokens: 64, timeoutMs: 5, n: 1 }).catch(() => {});
  });
  const samples: Resources[] = [];
  const started = performance.now();
  const watching = repeat(SAMPLE_MS, end, () => {
    const now = resourcesAt((performance.now() - started) / 60_000);
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
  // The first half is the warming up: V8's heap and the allocator take ten minutes to settle.
  const late = samples.slice(Math.floor(samples.length / 2));
  const growths = {
    rssMiB: growth(late, "rss"),
    heapUsedMiB: growth(late, "heapUsed"),
    externalMiB: growth(late, "external"),
    // Syncs open connections and close them again: what stays is what is there between them.
    files: growth(lowest(late), "files"),
  };
  const { rows, dialogs, lost, doubled, misshapen } = books;
  const broken = [
    ...Object.entries({ lost, doubled, misshapen, ...unaccounted })
      .filter(([, count]) => count !== 0).map(([name]) => name),
    // Shorter runs are still warming up.
    ...(minutes >= 20 && growths.rssMiB >= RSS_LINE ? ["rssMiB"] : []),
    ...(minutes >= 20 && growths.files >= FILES_LINE ? ["files"] : []),
  ];
  const report = {
    minutes,
    syncs,
    batches,
    rows,
    dialogs,
    faults,
    lost,
    doubled,
    misshapen,
    unaccounted,
    growthPerMinute: growths,
    files: [Math.min(...late.map((one) => one.files)), Math.max(...late.map((one) => one.files))],
    resources: [samples[0], ...late.filter((_, i) => i % 18 === 0), samples.at(-1)],
    stats,
    broken,
  };
  // deno-lint-ignore no-console
  console.log(JSON.stringify(report, null, 2));
  await Deno.remove(folder, { recursive: true });
  if (broken.length > 0) Deno.exitCode = 1;
}

function startHost(folders: readonly string[]) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", import.meta.filename!, "serve", ...folders],
    stdout: "piped",
  }).spawn();
  return {
    async urls(): Promise<string[]> {
      const found: string[] = [];
      for await (const line of readLines(child.stdout)) {
        if (line.startsWith("http")) found.push(line);
        if (found.length === 2) return found;
      }
      throw new Error("the servers did not start");
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
    },
  };
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

/** Of every minute the sample with the fewest open files. */
function lowest(samples: readonly Resources[]): Resources[] {
  const byMinute = Map.groupBy(samples, ({ minute }) => Math.floor(minute));
  return [...byMinute.values()].map((one) => one.reduce((a, b) => b.files < a.files ? b : a));
}

function minutesOf(args: readonly string[]): number {
  const at = args.indexOf("--minutes");
  const minutes = at < 0 ? 20 : Number(args[at + 1]);
  if (minutes > 0) return minutes;
  throw new Error("--minutes must be a number above 0");
}
