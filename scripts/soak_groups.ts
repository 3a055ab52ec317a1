/**
 * Collects many groups from two servers while members fail, hang and time out, servers answer 503, break
 * connections and stall, and weights are synced again and again. Looks at what must not happen: groups that
 * are short, lost or doubled, or mix versions beyond the bound. Each sync brings weights that say one token
 * and nothing else, so that the tokens themselves tell which weights made them.
 *
 *     deno task soak:groups [--groups 10000] [--seed 1] [--sync-ms 500]
 *
 * The servers are embedded ones in this process.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import {
  AsyncSGLang,
  EnvironmentPool,
  LLMCollector,
  type RolloutBatch,
  SGLangWeightSyncScheme,
  SGLangWrapper,
} from "../mod.ts";
import type { Environment } from "../src/collector/environments/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../src/embedded/mod.ts";
import { seeded } from "../tests/_support/seeded.ts";
import { weightsThatSay } from "../tests/unit/collector/_weights_that_say.ts";

const SIZE = 4;
const SPARES = 1;
const MAX_STALENESS = 1;
/** Sync `n` brings weights of the name `n` that say the token `FIRST_TOKEN + n % TOKENS`. */
const FIRST_TOKEN = 100;
const TOKENS = 800;

const { values: flags } = parseArgs({
  options: {
    groups: { type: "string", default: "10000" },
    seed: { type: "string", default: "1" },
    "sync-ms": { type: "string", default: "500" },
  },
});
const total = Number(flags.groups);
const random = seeded(Number(flags.seed));
const counts = { faults: 0, hangs: 0, serverFaults: 0, stalls: 0, syncs: 0, syncsFailed: 0 };

/** The longest time since the last call for which this thread did nothing else. */
function watchLoop(): (() => number) & { stop(): void } {
  let [longest, last] = [0, performance.now()];
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 20);
  const read = () => {
    const was = longest;
    longest = 0;
    return was;
  };
  return Object.assign(read, { stop: () => clearInterval(timer) });
}

/** Dialogs of one or two turns, of which some fail and some hang until their deadline. */
function environment(): Environment {
  return {
    reset: ({ group, member }) => ({
      messages: [{ role: "user", content: `Task ${group % 500}` }],
      info: { group, member },
    }),
    step: async ({ turn, signal }) => {
      const chance = random();
      if (chance < 0.01) throw new Error(`grader lost ${counts.faults++}`);
      if (chance < 0.011) {
        counts.hangs++;
        await new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason), { once: true })
        );
      }
      const isMore = turn === 0 && random() < 0.3;
      return {
        messages: isMore ? [{ role: "user", content: "Go on" }] : [],
        reward: random() < 0.5 ? 1 : 0,
        done: !isMore,
      };
    },
  };
}

/** What came out of the collector, group by group. */
class Groups {
  readonly #seen = new Uint8Array(total);
  given = 0;
  short = 0;
  doubled = 0;
  mixed = 0;
  /** Tokens that other weights made than the row says. */
  untrue = 0;
  rows = 0;
  oldest = 0;

  take(batch: RolloutBatch): void {
    for (const dialogs of batch.groups()) {
      const rows = dialogs.flatMap((dialog) => dialog.rows);
      const { group } = rows[0]!;
      if (this.#seen[group] === 1) this.doubled++;
      this.#seen[group] = 1;
      this.given++;
      this.rows += rows.length;
      const isWhole = dialogs.length === SIZE &&
        dialogs.every((dialog) => dialog.rows.at(-1)!.done);
      if (!isWhole) this.short++;
      const versions = rows.flatMap((row) => [...row.tokenVersions!]);
      const age = batch.versionIndex! - Math.min(...versions);
      this.oldest = Math.max(this.oldest, age);
      if (age > MAX_STALENESS) this.mixed++;
      for (const { responseIds, weightVersions } of rows) {
        for (const { version, start, end } of weightVersions!) {
          const token = FIRST_TOKEN + Number(version) % TOKENS;
          this.untrue += responseIds.subarray(start, end).filter((id) => id !== token).length;
        }
      }
    }
  }
}

const folder = await Deno.makeTempDir();
try {
  await makeTinyCheckpoint(folder, { dtype: "float32" });
  await using first = await EmbeddedServer.start({ model: folder });
  await using second = await EmbeddedServer.start({ model: folder });
  const servers = [first, second];
  await using engine = await AsyncSGLang.connect(servers.map(({ url }) => url));
  await using collector = new LLMCollector(new EnvironmentPool(environment, { size: 160 }), {
    policy: new SGLangWrapper(engine, {
      tokenizer: folder,
      generateKwargs: { maxNewTokens: 4, ignoreEos: true, temperature: 1 },
    }),
    dialogTurnsPerBatch: 256,
    totalDialogs: total * SIZE,
    groupSize: SIZE,
    overSample: SPARES,
    maxGroupRefills: 1_000,
    maxStaleness: MAX_STALENESS,
    onStale: "retry",
    onDialogError: "skip",
    maxConsecutiveFailures: 1_000,
    environmentTimeoutMs: 3_000,
  });
  await using sender = new SGLangWeightSyncScheme({ engine }).createSender();
  sender.registerCollector(collector);
  await sender.initAllWorkersGroup();
  const lag = watchLoop();
  const sync = async () => {
    const number = ++counts.syncs;
    const weights = await weightsThatSay(FIRST_TOKEN + number % TOKENS, folder);
    lag();
    try {
      await sender.updateWeights(weights, { version: String(number) });
    } catch (error) {
      // The next one brings the servers what they miss.
      counts.syncsFailed++;
      console.log(`sync ${number}: ${error}; the loop was held for ${lag().toFixed(0)} ms at most`);
    }
  };
  const trouble = async () => {
    counts.serverFaults += 2;
    const server = servers[random() < 0.5 ? 0 : 1]!;
    server.setFaults({ unavailable: 1, dropConnections: 1 });
    if (random() < 0.1) {
      counts.stalls++;
      server.setFaults({ stalled: true });
      await new Promise((resolve) => setTimeout(resolve, 300));
      server.setFaults({ stalled: false });
    }
  };
  await sync();
  const ending = new AbortController();
  const repeat = async (everyMs: number, work: () => Promise<void>) => {
    while (!ending.signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, everyMs));
      await work();
    }
  };
  const background = Promise.all([
    repeat(Number(flags["sync-ms"]), sync),
    repeat(700, trouble),
  ]);
  // Awaited at the end; here it must not be unhandled.
  background.catch(() => {});
  const groups = new Groups();
  const began = performance.now();
  let told = began;
  for await (const batch of collector) {
    groups.take(batch);
    if (performance.now() - told < 10_000) continue;
    told = performance.now();
    console.log(`${groups.given} groups, ${((told - began) / 1000).toFixed(0)} s`);
  }
  ending.abort();
  await background;
  lag.stop();
  const { stats } = collector;
  const { short, doubled, mixed, untrue, rows, oldest } = groups;
  const broken = {
    short,
    // Those that were stale in all their tries are left out, and counted.
    lost: total - groups.given - stats.groupsDropped - stats.staleDropped / SIZE,
    doubled,
    mixed,
    untrue,
    unaccounted: stats.dialogsStarted - stats.dialogsCompleted - stats.dialogsFailed -
      stats.dialogsAbandoned,
  };
  console.log(JSON.stringify(
    {
      groups: total,
      seconds: Math.round((performance.now() - began) / 1000),
      ...broken,
      rows,
      oldest,
      ...counts,
      stats,
    },
    null,
    1,
  ));
  if (Object.values(broken).some((count) => count !== 0)) Deno.exitCode = 1;
} finally {
  await Deno.remove(folder, { recursive: true });
}
