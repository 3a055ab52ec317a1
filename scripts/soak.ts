/**
 * Collects for a long time from two servers whose weights are synced again and again and whose
 * connections are cut, and looks at what must not happen: rows lost or doubled, a ledger that does
 * not add up, memory and file descriptors that grow.
 *
 *     deno task soak [--minutes 20]
 *
 * The servers are embedded ones in a process of their own, so that the memory is the collector's.
 */
import {
  AsyncSGLang,
  EnvironmentPool,
  LLMCollector,
  safetensors,
  SGLangWeightSyncScheme,
  SGLangWrapper,
} from "../mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../src/embedded/mod.ts";
import { readLines } from "../src/internal/lines.ts";

const SAMPLE_MS = 10_000;
const SYNC_MS = 15_000;
const ABORT_MS = 7_000;
/** Rows of a batch; small, so that the reader is busy. */
const BATCH = 64;

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
    generateKwargs: { maxNewTokens: 16 },
  });
  const scheme = new SGLangWeightSyncScheme({ engine, transport: "gloo" });
  await using sender = scheme.createSender();
  await sender.initAllWorkersGroup();

  const end = performance.now() + minutes * 60_000;
  let faults = 0;
  const collector = new LLMCollector(
    new EnvironmentPool(() => ({
      reset: ({ dialog }) => ({ messages: [{ role: "user", content: `Dialog ${dialog}` }] }),
      step() {
        if (Math.random() < 0.002) {
          faults++;
          throw new Error("a fault on purpose");
        }
        return { reward: 1, done: Math.random() < 0.5 };
      },
    }), { size: 16 }),
    {
      policy,
      dialogTurnsPerBatch: BATCH,
      maxTurns: 4,
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
  // All its memory from the start, so that it does not grow with what is counted.
  const seen = new Uint8Array(4_000_000).fill(0);
  let dialogs = 0, doubled = 0, rows = 0, batches = 0;
  const samples: { minute: number; mib: number; files: number }[] = [];
  const started = performance.now();
  const watching = repeat(SAMPLE_MS, end, () => {
    samples.push({
      minute: (performance.now() - started) / 60_000,
      mib: Deno.memoryUsage().rss / 2 ** 20,
      files: [...Deno.readDirSync("/proc/self/fd")].length,
    });
    return Promise.resolve();
  });
  for await (const batch of collector) {
    for (const { dialog } of batch.trajectories()) {
      if (seen[dialog] === 1) doubled++;
      seen[dialog] = 1;
      dialogs++;
    }
    rows += batch.length;
    batches++;
    if (performance.now() > end) break;
  }
  await collector[Symbol.asyncDispose]();
  const syncs = await syncing;
  await Promise.all([aborting, watching]);
  const { stats } = collector;
  // Every dialog that came to its end and is older than the last batch must have come out.
  const open = stats.dialogsStarted - stats.dialogsCompleted - stats.dialogsFailed -
    stats.dialogsAbandoned - stats.retriesWaiting - collector.running;
  const inHand = stats.turns - stats.rowsYielded - stats.rowsStale - stats.rowsUnused;
  const lost = stats.rowsYielded - rows;
  // The first quarter is the warming up.
  const late = samples.slice(Math.floor(samples.length / 4));
  const report = {
    minutes,
    syncs,
    batches,
    rows,
    dialogs,
    faults,
    rowsLost: lost,
    doubled,
    dialogsUnaccounted: open,
    turnsNotGivenOut: inHand,
    rssMiB: samples.at(-1)?.mib.toFixed(0),
    rssSlopeMiBPerMinute: slope(late.map((one) => [one.minute, one.mib])).toFixed(3),
    filesSlopePerMinute: slope(late.map((one) => [one.minute, one.files])).toFixed(3),
    files: [Math.min(...late.map((one) => one.files)), Math.max(...late.map((one) => one.files))],
    stats,
  };
  // deno-lint-ignore no-console
  console.log(JSON.stringify(report, null, 2));
  await Deno.remove(folder, { recursive: true });
  const holds = lost === 0 && doubled === 0 && open === 0 && inHand >= 0 &&
    (minutes < 20 || slope(late.map((one) => [one.minute, one.mib])) < 0.2);
  if (!holds) Deno.exitCode = 1;
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

/** Slope of the straight line that fits best. */
function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const x = mean(points.map(([at]) => at));
  const y = mean(points.map(([, value]) => value));
  const over = points.reduce((sum, [at, value]) => sum + (at - x) * (value - y), 0);
  return over / points.reduce((sum, [at]) => sum + (at - x) ** 2, 0);
}

function minutesOf(args: readonly string[]): number {
  const at = args.indexOf("--minutes");
  const minutes = at < 0 ? 20 : Number(args[at + 1]);
  if (minutes > 0) return minutes;
  throw new Error("--minutes must be a number above 0");
}
