import { type AdapterTensors, LoraSyncScheme } from "../../src/adapters/mod.ts";
import { EnvironmentPool, promptEnvironment } from "../../src/collector/environments/mod.ts";
import { LLMCollector } from "../../src/collector/mod.ts";
import { AsyncSGLang } from "../../src/engine/mod.ts";
import { SGLangWrapper } from "../../src/policy/mod.ts";
import { median } from "../../tests/_support/median.ts";

/** Options of {@linkcode runAdapterSoak}. */
export interface AdapterSoakOptions {
  /** Servers that take the adapters. */
  readonly urls: readonly string[];
  /** Folder with the tokenizer. */
  readonly model: string;
  /** Adapters with different answers, which come again and again. */
  readonly adapters: readonly AdapterTensors[];
  /** Versions to bring. */
  readonly versions: number;
  /** Told now and then. */
  readonly onProgress?: ((line: string) => void) | undefined;
}

/** What a soak saw. */
export interface AdapterSoakReport {
  readonly versions: number;
  readonly rows: number;
  /** Rows whose tokens are not those of the adapter that the row is tagged with. */
  readonly wrongRows: number;
  /** Rows whose version is not exact. */
  readonly inexactRows: number;
  /** Rows left out as too old. */
  readonly staleRows: number;
  readonly failedDialogs: number;
  /** Versions that rows came of. */
  readonly versionsSeen: number;
  /** Most adapters that a server had at once. */
  readonly mostLoaded: number;
  /** Adapters that the servers have at the end. */
  readonly loadedAtEnd: number;
  /** Bytes of this process's heap after a tenth of the versions, and at the end. */
  readonly heapBytes: readonly [number, number];
  /** Median and longest time of a sync, in milliseconds. */
  readonly medianMs: number;
  readonly longestMs: number;
}

const GREEDY = { maxNewTokens: 8, temperature: 0, ignoreEos: true };
const PROMPT = "import asyncio";
const KEEP = 3;

/** Brings one adapter version after the other while a collector generates with the newest. */
export async function runAdapterSoak(options: AdapterSoakOptions): Promise<AdapterSoakReport> {
  const { urls, model, adapters, versions, onProgress } = options;
  await using engine = await AsyncSGLang.connect(urls);
  await using sender = new LoraSyncScheme({ engine, keep: KEEP }).createSender();
  const policy = new SGLangWrapper(engine, {
    tokenizer: model,
    generateKwargs: GREEDY,
    requestOptions: { lora: "policy" },
  });
  const environments = () =>
    new EnvironmentPool(() => promptEnvironment({ prompts: [PROMPT], reward: () => 0 }), {
      size: 6,
    });

  // What each adapter answers.
  const adapterByAnswer = new Map<string, number>();
  for (const [index, adapter] of adapters.entries()) {
    await sender.updateAdapter(adapter, { name: "policy" });
    await using learner = new LLMCollector(environments(), { policy, dialogTurnsPerBatch: 2 });
    for (const row of (await learner.rollout())!.rows) {
      adapterByAnswer.set(row.responseIds.join(), index);
    }
  }
  if (adapterByAnswer.size !== adapters.length) throw new Error("Two adapters answer the same");

  const adapterByName = new Map<string, number>();
  let next = 0;
  sender.registerCollector({
    announceVersion: (name) => void adapterByName.set(name, next),
    incrementVersion() {},
  });
  const collector = new LLMCollector(environments(), {
    policy,
    dialogTurnsPerBatch: 12,
    maxStaleness: KEEP - 1,
  });
  sender.registerCollector(collector);
  await sender.updateAdapter(adapters[next]!);

  const count = { rows: 0, wrongRows: 0, inexactRows: 0 };
  const seen = new Set<string>();
  let gotRows = Promise.withResolvers<void>();
  const stop = new AbortController();
  const reader = (async () => {
    while (!stop.signal.aborted) {
      const batch = await collector.rollout();
      for (const row of batch?.rows ?? []) {
        count.rows++;
        if (!row.versionsExact) count.inexactRows++;
        const names = new Set(row.weightVersions!.map(({ version }) => version));
        const [name] = names;
        seen.add(name!);
        const made = adapterByAnswer.get(row.responseIds.join());
        const tagged = new Set(row.tokenVersions);
        const isRight = names.size === 1 && tagged.size === 1 && !tagged.has(-1) &&
          made !== undefined && made === adapterByName.get(name!);
        if (isRight) continue;
        count.wrongRows++;
        onProgress?.(`wrong row: says ${[...names]}, made by adapter ${made}`);
      }
      if (batch !== null && batch.rows.length > 0) gotRows.resolve();
    }
  })().catch((error) => {
    if (!stop.signal.aborted) throw error;
  });

  const times: number[] = [];
  let mostLoaded = 0;
  let heapEarly = 0;
  const trainer = (async () => {
    for (let version = 1; version <= versions; version++) {
      next = version % adapters.length;
      const { durationMs } = await sender.updateAdapter(adapters[next]!);
      times.push(durationMs);
      for (const { client } of engine.workers) {
        mostLoaded = Math.max(mostLoaded, (await client.loadedLoras()).length);
      }
      // Not faster than rows come: those of a version that is too old by then would prove nothing.
      if (version % (KEEP - 1) === 0) {
        await Promise.race([gotRows.promise, reader]);
        gotRows = Promise.withResolvers();
      }
      if (version === Math.ceil(versions / 10)) heapEarly = heapBytes();
      if (version % 100 === 0) onProgress?.(`${version} versions, ${count.rows} rows`);
    }
  })();
  try {
    await Promise.race([trainer, reader]);
  } finally {
    stop.abort();
  }
  await trainer;
  await collector.asyncShutdown();
  await reader;
  await engine.adapters.idle();
  const loaded = await Promise.all(engine.workers.map(({ client }) => client.loadedLoras()));
  return {
    versions,
    ...count,
    staleRows: collector.stats.rowsStale,
    failedDialogs: collector.stats.dialogsFailed,
    versionsSeen: seen.size,
    mostLoaded,
    loadedAtEnd: Math.max(...loaded.map((names) => names.length)),
    heapBytes: [heapEarly, heapBytes()],
    medianMs: Math.round(median(times) * 10) / 10,
    longestMs: Math.round(Math.max(...times) * 10) / 10,
  };
}

/** Bytes that are in use, after a collection where the engine of JavaScript was told to allow one. */
function heapBytes(): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  return Deno.memoryUsage().heapUsed;
}
