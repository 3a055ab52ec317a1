/**
 * What the gateway costs: the time of one answer at 64 at once through `/v1/chat/completions`, beside
 * a bare `POST /generate` with the same ids, and how 1000 streams at once fare.
 *
 * Run as `deno run -A bench/gateway.ts [--concurrency 64] [--tokens 16] [--rounds 5] [--streams 1000]
 * [URL...]`; without URLs the servers of `SGLANG_RL_SERVERS`. The rounds take turns, so
 * that a busy machine slows both.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { AsyncSGLang } from "../src/engine/mod.ts";
import { RecordingGateway } from "../src/gateway/mod.ts";
import { SGLangWrapper } from "../src/policy/mod.ts";
import { median } from "../tests/_support/median.ts";

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: {
    concurrency: { type: "string", default: "64" },
    tokens: { type: "string", default: "16" },
    rounds: { type: "string", default: "5" },
    streams: { type: "string", default: "1000" },
  },
});
const urls = positionals.length > 0
  ? positionals
  : Deno.env.get("SGLANG_RL_SERVERS")?.split(",") ?? [];
if (urls.length === 0) {
  console.error("usage: deno run -A bench/gateway.ts URL...  (or set SGLANG_RL_SERVERS)");
  Deno.exit(2);
}
const [concurrency, tokens, rounds, streams] = [
  values.concurrency,
  values.tokens,
  values.rounds,
  values.streams,
].map(Number) as [number, number, number, number];

await using engine = await AsyncSGLang.connect(urls, { maxConcurrency: 2000 });
const policy = new SGLangWrapper(engine, {
  generateKwargs: { maxNewTokens: tokens, ignoreEos: true },
});
await using gateway = await RecordingGateway.listen(policy);
const model = await policy.chatModel();
let salt = 0;

function conversation(): { readonly role: string; readonly content: string }[] {
  return [{ role: "user", content: `${salt++} tell me about numbers` }];
}

async function bare(index: number): Promise<number> {
  const { ids } = await model.begin(conversation());
  const body = JSON.stringify({
    input_ids: [...ids],
    return_logprob: true,
    sampling_params: { max_new_tokens: tokens, ignore_eos: true },
  });
  const start = performance.now();
  const headers = { "content-type": "application/json" };
  const url = `${urls[index % urls.length]}/generate`;
  const response = await fetch(url, { method: "POST", headers, body });
  const { output_ids: sampled } = await response.json();
  if (sampled.length !== tokens) throw new Error(`${sampled.length} ids`);
  return performance.now() - start;
}

async function ours(): Promise<number> {
  const session = gateway.open();
  const body = JSON.stringify({ model: "policy", messages: conversation() });
  const start = performance.now();
  const headers = { authorization: `Bearer ${session.key}` };
  const url = `${session.baseUrl}/chat/completions`;
  const response = await fetch(url, { method: "POST", headers, body });
  const { usage } = await response.json();
  const took = performance.now() - start;
  if (usage.completion_tokens !== tokens) throw new Error(`${usage.completion_tokens} tokens`);
  await session.end();
  return took;
}

/** `concurrency` at once, each four times. */
async function round(one: (index: number) => Promise<number>): Promise<number[]> {
  const times = await Promise.all(Array.from({ length: concurrency }, async (_, index) => {
    const own: number[] = [];
    for (let again = 0; again < 4; again++) own.push(await one(index));
    return own;
  }));
  return times.flat();
}

await round(bare);
await round(ours);
const took: Record<"bare" | "ours", number[]> = { bare: [], ours: [] };
const ratios: number[] = [];
for (let index = 0; index < rounds; index++) {
  const [first, second] = [await round(bare), await round(ours)];
  took.bare.push(...first);
  took.ours.push(...second);
  ratios.push(median(second) / median(first));
}
console.log(
  `${concurrency} at once, ${tokens} tokens, ${rounds} rounds: p50 of the gateway is ` +
    `${(median(took.ours) / median(took.bare)).toFixed(2)} times that of a bare /generate ` +
    `(rounds: ${ratios.map((ratio) => ratio.toFixed(2)).join(", ")}); ` +
    `${median(took.bare).toFixed(0)} and ${median(took.ours).toFixed(0)} ms`,
);

async function streamed(): Promise<boolean> {
  const session = gateway.open();
  const headers = { authorization: `Bearer ${session.key}` };
  const body = JSON.stringify({ model: "policy", messages: conversation(), stream: true });
  const url = `${session.baseUrl}/chat/completions`;
  const response = await fetch(url, { method: "POST", headers, body });
  const text = await response.text();
  const { rows } = await session.end();
  return text.trimEnd().endsWith("[DONE]") && rows[0]?.responseIds.length === tokens;
}

const start = performance.now();
const whole = await Promise.all(Array.from({ length: streams }, streamed));
const good = whole.filter(Boolean).length;
console.log(
  `${good} of ${streams} streams at once came whole, each recorded, in ` +
    `${((performance.now() - start) / 1000).toFixed(1)} s`,
);
if (good < streams) Deno.exit(1);
