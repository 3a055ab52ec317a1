/**
 * The whole loop in seconds: generate with log-probabilities, push new weights into the running
 * servers, generate again.
 *
 *     deno task demo                      on two embedded servers: no GPU, no Python, no download
 *     deno task demo --real               on the real SGLang on this machine's CPU
 *     deno task demo --server URL         on running servers; add --sync FOLDER to push weights
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import {
  type AsyncSGLang,
  type Generation,
  safetensors,
  SGLangError,
  SGLangWeightSyncScheme,
} from "@sglang-rl/sglang-rl";
import { EmbeddedServer } from "@sglang-rl/sglang-rl/testing";
import { embeddedFleet, type Fleet, givenFleet, realFleet } from "./demo/fleets.ts";
import { Screen } from "./demo/screen.ts";

const usage = `deno task demo [--real | --server URL ... [--sync FOLDER]] [--prompts N] [--tokens N]

  --real         the real SGLang on this machine's CPU, installed on first use
  --server URL   running servers instead; may be repeated. SGLANG_API_KEY is their key
  --sync FOLDER  with --server: a safetensors checkpoint to push into them
  --prompts N    how many prompts (default 64)
  --tokens N     how many tokens for each (default 32)`;

interface Settings {
  readonly prompts: readonly string[];
  readonly maxNewTokens: number;
  readonly signal: AbortSignal;
}

function promptsOf(count: number): string[] {
  const things = [
    "a river",
    "the moon",
    "an old bridge",
    "a proof",
    "bread",
    "a number",
    "the sea",
  ];
  return Array.from(
    { length: count },
    (_, i) => `${i}. Tell me about ${things[i % things.length]}`,
  );
}

/** One round of generation, at full concurrency. */
async function generate(
  engine: AsyncSGLang,
  options: Settings & { screen: Screen; title: string },
): Promise<Generation[]> {
  const { prompts, maxNewTokens, signal, screen, title } = options;
  const started = performance.now();
  const samples = await engine.generate(prompts, {
    maxNewTokens,
    temperature: 0,
    ignoreEos: true,
    returnLogProbs: true,
    onProgress: screen.counting(title),
    signal,
  });
  const seconds = (performance.now() - started) / 1000;
  const tokens = samples.reduce((sum, sample) => sum + sample.ids.length, 0);
  const logProbs = samples.flatMap((sample) => [...sample.logProbs ?? []]);
  const mean = logProbs.reduce((sum, value) => sum + value, 0) / logProbs.length;
  const versions = [...new Set(samples.map((sample) => sample.weightVersion))].join(", ");
  screen.done(
    title,
    `version ${versions}: ${samples.length} samples, ${tokens} tokens, ` +
      `${(tokens / seconds).toFixed(0)} tokens/s, mean log-prob ${mean.toFixed(3)}`,
  );
  return samples;
}

/** Pushes a checkpoint into every running server. */
async function push(
  engine: AsyncSGLang,
  options: { folder: string; screen: Screen; signal: AbortSignal },
): Promise<void> {
  const { folder, screen, signal } = options;
  const scheme = new SGLangWeightSyncScheme({ engine });
  await using sender = scheme.createSender();
  sender.registerModel(safetensors(folder));
  await sender.initAllWorkersGroup(undefined, { signal });
  const report = await sender.updateWeights(undefined, {
    onProgress: ({ message }) => screen.progress(`push weights: ${message}`),
    signal,
  });
  screen.done(
    "push new weights",
    `version ${report.version}: ${report.tensors} tensors, ${
      (report.sizeBytes / 1e6).toFixed(2)
    } ` +
      `MB to ${report.servers.length} servers by ${report.transport} in ` +
      `${report.durationMs.toFixed(0)} ms`,
  );
}

/** How many samples have the ids that a server started with these weights makes. */
async function countMatches(
  samples: readonly Generation[],
  options: Settings & { folder: string },
): Promise<number> {
  await using reference = await EmbeddedServer.start({ model: options.folder });
  const answers = await Promise.all(options.prompts.map(async (text) => {
    const response = await fetch(`${reference.url}/generate`, {
      method: "POST",
      body: JSON.stringify({
        text,
        sampling_params: {
          max_new_tokens: options.maxNewTokens,
          temperature: 0,
          ignore_eos: true,
        },
      }),
      signal: options.signal,
    });
    return (await response.json()).output_ids as number[];
  }));
  return samples.filter((sample, i) => sameIds(sample.ids, answers[i]!)).length;
}

function sameIds(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  return a.length === b.length && Array.from(a).every((id, i) => id === b[i]);
}

async function run(fleet: Fleet, options: Settings & { screen: Screen }): Promise<boolean> {
  const { screen, signal } = options;
  const { engine, nextWeights: folder } = fleet;
  screen.done("servers are ready", engine.workers.map(({ url }) => url).join(", "));
  const before = await generate(engine, { ...options, title: "generate" });
  if (folder === null) return true;
  await push(engine, { folder, screen, signal });
  const after = await generate(engine, { ...options, title: "generate again" });
  const changed = after.filter((sample, i) => !sameIds(sample.ids, before[i]!.ids)).length;
  screen.done("compare", `${changed} of ${after.length} samples changed`);
  if (!fleet.isTiny) return changed > 0;
  const matching = await countMatches(after, { ...options, folder });
  screen.done(
    "check",
    `${matching} of ${after.length} equal those of a server that was started with the new weights`,
  );
  return changed > 0 && matching === after.length;
}

function openFleet(
  values: { real: boolean; server: string[]; sync?: string },
  options: { folder: string; screen: Screen; signal: AbortSignal },
): Promise<Fleet> {
  const { folder, screen, signal } = options;
  if (values.real) return realFleet(folder, { screen, signal });
  if (values.server.length === 0) return embeddedFleet(folder, screen);
  return givenFleet(values.server, { sync: values.sync ?? null, signal });
}

function readArguments() {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      real: { type: "boolean", default: false },
      server: { type: "string", multiple: true, default: [] },
      sync: { type: "string" },
      prompts: { type: "string", default: "64" },
      tokens: { type: "string", default: "32" },
      help: { type: "boolean", default: false },
    },
  });
  const [prompts, tokens] = [Number(values.prompts), Number(values.tokens)];
  const isCount = (n: number) => Number.isInteger(n) && n > 0;
  if (!isCount(prompts) || !isCount(tokens)) {
    throw new TypeError("--prompts and --tokens take a number of 1 or more");
  }
  if (values.sync !== undefined && values.server.length === 0) {
    throw new TypeError("--sync needs --server: the demo's own servers get the demo's weights");
  }
  return { ...values, prompts, tokens };
}

async function main(): Promise<number> {
  let values: ReturnType<typeof readArguments>;
  try {
    values = readArguments();
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    return 2;
  }
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const screen = new Screen();
  const interrupt = new AbortController();
  const onInterrupt = () => interrupt.abort(new Error("interrupted"));
  Deno.addSignalListener("SIGINT", onInterrupt);
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-demo-" });
  try {
    const { signal } = interrupt;
    let isGood: boolean;
    {
      await using fleet = await openFleet(values, { folder, screen, signal });
      screen.note(`sglang-rl demo: ${fleet.title}`);
      const prompts = promptsOf(values.prompts);
      isGood = await run(fleet, { prompts, maxNewTokens: values.tokens, signal, screen });
    }
    screen.done("everything is shut down", isGood ? "the loop works" : "SOMETHING IS WRONG");
    return isGood ? 0 : 1;
  } catch (error) {
    if (interrupt.signal.aborted) {
      console.error("Interrupted; everything is shut down");
      return 130;
    }
    if (!(error instanceof SGLangError)) throw error;
    console.error(error.message);
    return 1;
  } finally {
    await Deno.remove(folder, { recursive: true });
    Deno.removeSignalListener("SIGINT", onInterrupt);
  }
}

Deno.exitCode = await main();
