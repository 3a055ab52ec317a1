/**
 * How long 256 prompts take on real servers: this library, `fetch` by hand all at once, and one by
 * one as TorchRL's engine sends them.
 *
 * Run as `deno run -A bench/rollout.ts [--prompts 256] [--tokens 16] [--rounds 3] URL...`; without
 * URLs the servers of `SGLANG_RL_SERVERS`. The rounds of the first two take turns, so that a busy
 * machine slows both.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { AsyncSGLang } from "../src/engine/mod.ts";
import { medianBy } from "../tests/_support/median.ts";

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: {
    prompts: { type: "string", default: "256" },
    tokens: { type: "string", default: "16" },
    rounds: { type: "string", default: "3" },
  },
});
const urls = positionals.length > 0
  ? positionals
  : Deno.env.get("SGLANG_RL_SERVERS")?.split(",") ?? [];
if (urls.length === 0) {
  console.error("usage: deno run -A bench/rollout.ts URL...  (or set SGLANG_RL_SERVERS)");
  Deno.exit(2);
}
const maxNewTokens = Number(values.tokens);
const rounds = Number(values.rounds);
let salt = 0;

/** Fresh prompts, so that no run finds the cache of another. */
function prompts(): string[] {
  salt++;
  return Array.from({ length: Number(values.prompts) }, (_, i) => `${salt} prompt number ${i}`);
}

await using engine = await AsyncSGLang.connect(urls);

async function ours(texts: readonly string[]): Promise<number> {
  const samples = await engine.generate(texts, {
    maxNewTokens,
    ignoreEos: true,
    returnLogProbs: true,
  });
  return samples.reduce((sum, { ids }) => sum + ids.length, 0);
}

async function post(url: string, text: string): Promise<number> {
  const response = await fetch(`${url}/generate`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      text,
      return_logprob: true,
      sampling_params: { max_new_tokens: maxNewTokens, ignore_eos: true },
    }),
  });
  return (await response.json()).output_ids.length;
}

async function byHand(texts: readonly string[]): Promise<number> {
  const counts = await Promise.all(
    texts.map((text, i) => post(urls[i % urls.length]!, text)),
  );
  return counts.reduce((a, b) => a + b);
}

async function oneByOne(texts: readonly string[]): Promise<number> {
  let tokens = 0;
  for (const text of texts) tokens += await post(urls[0]!, text);
  return tokens;
}

interface Timing {
  readonly seconds: number;
  readonly tokens: number;
}

async function time(run: (texts: readonly string[]) => Promise<number>): Promise<Timing> {
  const texts = prompts();
  const started = performance.now();
  const tokens = await run(texts);
  return { seconds: (performance.now() - started) / 1000, tokens };
}

await time(ours);
const oursTimings: Timing[] = [];
const byHandTimings: Timing[] = [];
for (let round = 0; round < rounds; round++) {
  oursTimings.push(await time(ours));
  byHandTimings.push(await time(byHand));
}
const rows = {
  "this library": medianBy(oursTimings, ({ seconds }) => seconds),
  "fetch by hand, all at once": medianBy(byHandTimings, ({ seconds }) => seconds),
  "one by one": await time(oneByOne),
};

console.log(
  `${values.prompts} prompts of ${maxNewTokens} new tokens on ${urls.length} servers, ` +
    `median of ${rounds}`,
);
const own = rows["this library"].seconds;
for (const [name, { seconds, tokens }] of Object.entries(rows)) {
  console.log(
    `${name.padEnd(28)}${seconds.toFixed(2).padStart(8)} s${
      (tokens / seconds).toFixed(0).padStart(8)
    } tok/s  ${(seconds / own).toFixed(2)} times the time of this library`,
  );
}
