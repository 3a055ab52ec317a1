import { setTimeout as pause } from "node:timers/promises";
import { EnvironmentPool, promptEnvironment } from "../../src/collector/environments/mod.ts";
import { LLMCollector, type RolloutBatch } from "../../src/collector/mod.ts";
import { AsyncSGLang } from "../../src/engine/mod.ts";
import { SGLangWrapper } from "../../src/policy/mod.ts";
import { safetensors } from "../../src/weights/source/mod.ts";
import { SGLangWeightSyncScheme } from "../../src/weights/mod.ts";
import { median } from "../../tests/_support/median.ts";

/** Two servers that can be killed, and the checkpoints that they are synced to. */
export interface KillablePair extends AsyncDisposable {
  /** What an engine connects to. */
  readonly target: string | readonly string[];
  /** Two checkpoints with different answers; servers start with the first. */
  readonly checkpoints: readonly [string, string];
  /** Kills a server and starts it again at its address with the first checkpoint. */
  restart(index: number): Promise<void>;
}

/** Options of {@linkcode runVersionsSoak}. */
export interface VersionsSoakOptions {
  /** Ends after this time. */
  readonly durationMs: number;
  /** Ends after this many kills. */
  readonly kills: number;
  /** Decides who is killed, and when. */
  readonly seed: number;
  /** Told of every kill. */
  readonly onProgress?: ((line: string) => void) | undefined;
}

/** What a soak saw. */
export interface VersionsSoakReport {
  readonly minutes: number;
  readonly kills: number;
  readonly syncs: number;
  readonly failedSyncs: number;
  /** The fewest servers that the engine knew at a sync: it forgets none that dies. */
  readonly fewestServers: number;
  /** Syncs that were begun, by second; one is wanted. */
  readonly syncsPerSecond: number;
  /** Milliseconds that syncs took, kills in their midst included: the middle one, and the longest. */
  readonly syncMs: { readonly median: number; readonly longest: number };
  /** The middle one of those that went well. */
  readonly goodSyncMs: number;
  /** The middle one of the milliseconds of each step of the syncs that went well. */
  readonly stepsMs: Readonly<Record<string, number>>;
  readonly rows: number;
  /** Rows that a sync cut; each token has its own version. */
  readonly mixedRows: number;
  /** Rows left out as stale or unknown. */
  readonly staleRows: number;
  /** Rows of other weights than the version says that they are given out as. */
  readonly wrongRows: number;
  /** Rows that the ledger does not account for. */
  readonly lostRows: number;
  readonly doubledRows: number;
  readonly versionsTwice: number;
  /** Dialogs that failed in all their tries. */
  readonly failedDialogs: number;
}

const GREEDY = { maxNewTokens: 12, temperature: 0, ignoreEos: true };
const SYNC_EVERY_MS = 1_000;

/** Runs it; throws only when the fleet cannot be used at all. */
export async function runVersionsSoak(
  pair: KillablePair,
  options: VersionsSoakOptions,
): Promise<VersionsSoakReport> {
  const { checkpoints } = pair;
  const tell = (line: string) => options.onProgress?.(line);
  const logger = { debug() {}, info() {}, warn: tell, error: tell };
  await using engine = await AsyncSGLang.connect(pair.target, { membershipMs: 2_000, logger });
  const policy = new SGLangWrapper(engine, { tokenizer: checkpoints[0], generateKwargs: GREEDY });
  const environments = () =>
    new EnvironmentPool(() => promptEnvironment({ prompts: ["import asyncio"], reward: () => 0 }), {
      size: 6,
    });
  await using sender = new SGLangWeightSyncScheme({ engine, whenUnreachable: "skip" })
    .createSender();
  await sender.initAllWorkersGroup();

  let syncing = checkpoints[0];
  const checkpointByVersion = new Map<string, string>();
  let versionsTwice = 0;
  sender.registerCollector({
    announceVersion(version) {
      if (checkpointByVersion.has(version)) versionsTwice++;
      checkpointByVersion.set(version, syncing);
    },
    incrementVersion() {},
  });
  // What each checkpoint answers.
  const checkpointByAnswer = new Map<string, string>();
  for (const checkpoint of checkpoints) {
    syncing = checkpoint;
    await sender.updateWeights(safetensors(checkpoint));
    await using learner = new LLMCollector(environments(), { policy, dialogTurnsPerBatch: 4 });
    for (const row of (await learner.rollout())!.rows) {
      checkpointByAnswer.set(row.responseIds.join(), checkpoint);
    }
  }

  if (checkpointByAnswer.size < 2) throw new Error("The checkpoints answer alike: no row is wrong");

  const collector = new LLMCollector(environments(), {
    policy,
    dialogTurnsPerBatch: 12,
    maxStaleness: 0,
    dialogRetries: 3,
    onDialogError: "skip",
    maxConsecutiveFailures: 1_000,
    logger,
  });
  sender.registerCollector(collector);

  const count = {
    kills: 0,
    syncs: 0,
    failedSyncs: 0,
    rows: 0,
    mixedRows: 0,
    wrongRows: 0,
    doubledRows: 0,
  };
  const seen = new Set<number>();
  const look = (batch: RolloutBatch, current: number | null) => {
    for (const { dialog, error } of batch.failures) {
      options.onProgress?.(`dialog ${dialog} failed in all its tries: ${error.message}`);
    }
    for (const row of batch.rows) {
      count.rows++;
      if (seen.has(row.dialog)) count.doubledRows++;
      seen.add(row.dialog);
      const spans = row.weightVersions!.filter(({ start, end }) => end > start);
      const versions = new Set(spans.map(({ version }) => version));
      const [said] = versions;
      const made = checkpointByAnswer.get(row.responseIds.join());
      // A row may be newer than the version that the last sync reported, never older.
      const isNew = row.tokenVersions!.every((version) => version >= current!);
      // A sync cut it: its tokens are of both weights, and each says which.
      if (versions.size > 1) count.mixedRows++;
      if (isNew && (versions.size > 1 || made === checkpointByVersion.get(said!))) continue;
      count.wrongRows++;
      const at = `versions ${[...new Set(row.tokenVersions)]} at ${current}`;
      options.onProgress?.(
        `wrong row: ${[...versions]}, made by ${made ?? "no checkpoint"}, ${at}`,
      );
    }
  };

  const startedMs = performance.now();
  const isOver = () =>
    count.kills >= options.kills || performance.now() - startedMs > options.durationMs;
  const stop = new AbortController();
  const syncTimes: number[] = [];
  const goodSyncTimes: number[] = [];
  const stepTimes = new Map<string, number[]>();
  let fewestServers = engine.workers.length;
  const trainer = (async () => {
    let startedMs = performance.now();
    while (!stop.signal.aborted) {
      // Each second, or as soon as the one before is done.
      await pause(Math.max(0, startedMs + SYNC_EVERY_MS - performance.now()));
      startedMs = performance.now();
      syncing = checkpoints[count.syncs % 2]!;
      fewestServers = Math.min(fewestServers, engine.workers.length);
      try {
        const { phasesMs } = await sender.updateWeights(safetensors(syncing));
        count.syncs++;
        goodSyncTimes.push(performance.now() - startedMs);
        for (const [step, ms] of Object.entries(phasesMs)) {
          const times = stepTimes.get(step);
          if (times === undefined) stepTimes.set(step, [ms]);
          else times.push(ms);
        }
      } catch (error) {
        count.failedSyncs++;
        options.onProgress?.(`a sync failed: ${String(error).slice(0, 300)}`);
      }
      syncTimes.push(performance.now() - startedMs);
    }
  })();
  const reader = (async () => {
    while (!stop.signal.aborted) {
      const batch = await collector.rollout();
      if (batch !== null) look(batch, batch.versionIndex);
    }
  })().catch((error) => {
    if (!stop.signal.aborted) throw error;
  });
  const random = randomOf(options.seed);
  const killer = (async () => {
    while (!isOver()) {
      await pause(1_000 + 4_000 * random());
      if (isOver()) break;
      const index = Math.floor(random() * 2);
      count.kills++;
      options.onProgress?.(
        `${Math.round((performance.now() - startedMs) / 1000)} s: kill ${count.kills} of server ` +
          `${index}; ${count.syncs} syncs, ${count.rows} rows, ${count.wrongRows} wrong`,
      );
      await pair.restart(index);
    }
  })();
  try {
    await Promise.race([killer, reader, trainer]);
    // What came back last is met under load too.
    await pause(3_000);
  } finally {
    stop.abort();
  }
  await trainer;
  await collector.asyncShutdown();
  await reader;
  for (let rest = collector.drain(); rest !== null; rest = collector.drain()) {
    count.rows += rest.length;
  }
  const { stats } = collector;
  const seconds = (performance.now() - startedMs) / 1000;
  return {
    minutes: Math.round(seconds / 6) / 10,
    ...count,
    fewestServers,
    syncsPerSecond: Math.round(syncTimes.length / seconds * 100) / 100,
    goodSyncMs: Math.round(median(goodSyncTimes)),
    syncMs: { median: Math.round(median(syncTimes)), longest: Math.round(Math.max(...syncTimes)) },
    stepsMs: Object.fromEntries(
      [...stepTimes].map(([step, times]) => [step, Math.round(median(times))]),
    ),
    staleRows: stats.rowsStale,
    lostRows: stats.turns - stats.rowsStale - stats.rowsUnused - count.rows,
    versionsTwice,
    failedDialogs: stats.dialogsFailed,
  };
}

/** Numbers in [0, 1) that are the same again for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
