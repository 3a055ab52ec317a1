/**
 * One process beside many servers and many dialogs, which are stand-ins: what it costs to connect,
 * to sync and to ask, and what dialogs take while all of them wait for an answer. Time is of the
 * processor unless it says otherwise.
 *
 * Run as `deno run -A bench/scale.ts [--servers 1,8,64,512] [--dialogs 1000,10000,50000]
 * [--in-flight 8000]`: so many requests at a time, each of which takes an open file here and one for
 * the stand-ins (`ulimit -n`), as do idle connections.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { EnvironmentPool } from "../src/collector/environments/mod.ts";
import { LLMCollector } from "../src/collector/mod.ts";
import { makeTinyCheckpoint } from "../src/embedded/mod.ts";
import { AsyncSGLang } from "../src/engine/mod.ts";
import { readLines } from "../src/internal/lines.ts";
import { SGLangWrapper } from "../src/policy/mod.ts";
import { SGLangWeightSyncScheme } from "../src/weights/mod.ts";
import { safetensors } from "../src/weights/source/mod.ts";
import { usedMs, watchWork } from "../tests/_support/processor_time.ts";

const { values } = parseArgs({
  options: {
    servers: { type: "string", default: "1,8,64,512" },
    dialogs: { type: "string", default: "1000,10000,50000" },
    "in-flight": { type: "string", default: "8000" },
  },
});
const numbers = (list: string) => list === "" ? [] : list.split(",").map(Number);
const folder = await Deno.makeTempDir();
await makeTinyCheckpoint(folder, { seed: 0 });

/** Time of the processor and of the clock, in milliseconds, and what came back. */
async function timed<T>(run: () => Promise<T>): Promise<{ ms: number; clock: number; value: T }> {
  const [ms, clock] = [usedMs(), performance.now()];
  const value = await run();
  return { ms: usedMs() - ms, clock: performance.now() - clock, value };
}

async function start(count: number, answerMs: number) {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      new URL("scale/servers.ts", import.meta.url).pathname,
      `${count}`,
      `${answerMs}`,
      folder,
    ],
    stdout: "piped",
  }).spawn();
  const { value } = await readLines(child.stdout).next();
  return {
    urls: value!.split(" "),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
    },
  };
}

const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
const files = () => [...Deno.readDirSync("/proc/self/fd")].length;

async function beside(count: number): Promise<void> {
  await using servers = await start(count, 20);
  const connected = await timed(() => AsyncSGLang.connect(servers.urls));
  await using engine = connected.value;
  const ask = () => {
    const prompts = Array.from({ length: 10_000 }, (_, i) => `prompt number ${i}`);
    return engine.generate(prompts, { maxNewTokens: 32, returnLogProbs: true });
  };
  await ask();
  const asked = await timed(ask);
  const scheme = new SGLangWeightSyncScheme({ engine, transport: "disk" });
  await using sender = scheme.createSender();
  await sender.initAllWorkersGroup();
  const sync = (version: string) => sender.updateWeights(safetensors(folder), { version });
  await sync("1");
  const synced = await timed(() => sync("2"));
  console.log(
    `${count} servers: connect ${connected.ms.toFixed(0)} ms (clock ${
      connected.clock.toFixed(0)
    }); a request ${(asked.ms / 10).toFixed(0)} us; a sync by disk ${synced.ms.toFixed(0)} ms, ` +
      `${(synced.ms / count).toFixed(1)} a server (clock ${synced.clock.toFixed(0)}); ` +
      `RSS ${mib(Deno.memoryUsage().rss)}, ${files()} files`,
  );
}

async function dialogs(count: number): Promise<void> {
  await using servers = await start(64, 2000);
  await using engine = await AsyncSGLang.connect(servers.urls, {
    // Of each server.
    maxConcurrency: Math.ceil(Number(values["in-flight"]) / servers.urls.length),
  });
  const policy = new SGLangWrapper(engine, {
    tokenizer: folder,
    generateKwargs: { maxNewTokens: 32 },
  });
  const environments = new EnvironmentPool(() => ({
    reset: ({ dialog }) => ({ messages: [{ role: "user", content: `Dialog ${dialog}` }] }),
    step: ({ turn }) => ({ reward: 1, done: turn === 1 }),
  }), { size: count });
  const before = Deno.memoryUsage().rss;
  let [most, mostFiles, rows] = [0, 0, 0];
  const work = watchWork();
  const looking = setInterval(() => {
    most = Math.max(most, Deno.memoryUsage().rss);
    mostFiles = Math.max(mostFiles, files());
  }, 1000);
  const { ms, clock } = await timed(async () => {
    await using collector = new LLMCollector(environments, {
      policy,
      dialogTurnsPerBatch: 1024,
      totalDialogs: count,
    });
    for await (const batch of collector) rows += batch.rows.length;
  });
  work.stop();
  clearInterval(looking);
  console.log(
    `${count} dialogs at once: ${(ms / rows).toFixed(2)} ms a row of ${rows} (clock ` +
      `${(clock / 1000).toFixed(0)} s); most memory ${mib(most)}, ` +
      `${
        ((most - before) / count / 1024).toFixed(1)
      } KiB a dialog; ${mostFiles} files; most work ` +
      `between two timers of 2 ms ${work.mostMs.toFixed(0)} ms`,
  );
}

for (const count of numbers(values.servers)) await beside(count);
for (const count of numbers(values.dialogs)) await dialogs(count);
await Deno.remove(folder, { recursive: true });
