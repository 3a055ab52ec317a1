/**
 * What a request, an event of a stream, a long list of prompts and a cast cost, beside Deno's `fetch`
 * and Python (aiohttp, orjson, numpy; torch) in the same run. Everything is time of the processor,
 * not of the clock, and rounds take turns: so a busy machine slows all alike.
 *
 * Run as `deno run -A bench/speed.ts [--rounds 5] [--only WORD] [--json FILE] [--python PYTHON]`; no
 * server is needed. `deno task bench:check` compares a run with the last one of the same machine.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { float32ToBFloat16 } from "../src/checkpoint/mod.ts";
import { SGLangClient } from "../src/client/mod.ts";
import { makeTinyCheckpoint } from "../src/embedded/mod.ts";
import { AsyncSGLang } from "../src/engine/mod.ts";
import { readLines } from "../src/internal/lines.ts";
import { SGLangWrapper } from "../src/policy/mod.ts";
import type { SpeedRow } from "../scripts/bench/compare.ts";
import { median } from "../tests/_support/median.ts";
import { usedMs, watchWork } from "../tests/_support/processor_time.ts";
import { pythonOf } from "../tests/_support/real.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    only: { type: "string", default: "" },
    json: { type: "string" },
    python: { type: "string", default: pythonOf() },
  },
});
const here = (name: string) => new URL(`speed/${name}`, import.meta.url).pathname;

await using server = new Deno.Command(Deno.execPath(), {
  args: ["run", "--allow-net=127.0.0.1", "--allow-env", here("server.ts")],
  stdout: "piped",
}).spawn();
const url = `http://127.0.0.1:${(await readLines(server.stdout).next()).value}`;
await using python = new Deno.Command(values.python, {
  args: [here("beside.py")],
  stdin: "piped",
  stdout: "piped",
}).spawn();
const answers = readLines(python.stdout);
const orders = python.stdin.getWriter();
async function inPython(order: object): Promise<number> {
  await orders.write(new TextEncoder().encode(`${JSON.stringify(order)}\n`));
  const { value } = await answers.next();
  if (value === undefined) throw new Error("Python failed; give one that has aiohttp and orjson");
  return JSON.parse(value) * 1000;
}

await using client = new SGLangClient({ url });
await using engine = await AsyncSGLang.connect(url, { maxConcurrency: 100_000 });
await using ordinary = await AsyncSGLang.connect(url);
const text = "x".repeat(400);
const tokenizer = await Deno.makeTempDir();
await makeTinyCheckpoint(tokenizer, { seed: 0 });
const wrapper = new SGLangWrapper(engine, { tokenizer, generateKwargs: { maxNewTokens: 32 } });

interface Load {
  readonly tokens: number;
  readonly concurrency: number;
  readonly requests: number;
  readonly stream: boolean;
}

/** Milliseconds of the processor for so many calls of `one`. */
async function drive({ concurrency, requests }: Load, one: () => Promise<unknown>) {
  let left = requests;
  const worker = async () => {
    while (left-- > 0) await one();
  };
  const started = usedMs();
  await Promise.all(Array.from({ length: concurrency }, worker));
  return usedMs() - started;
}

const optionsOf = ({ tokens }: Load) => ({ maxNewTokens: tokens, temperature: 1 });
const ways: Readonly<Record<string, (load: Load) => Promise<number>>> = {
  client: (load) =>
    drive(load, async () => {
      const request = { text, returnLogProbs: true, samplingParams: optionsOf(load) };
      if (!load.stream) return await client.generate(request);
      for await (const _ of client.stream(request));
    }),
  engine: (load) =>
    drive(load, async () => {
      const options = { ...optionsOf(load), returnLogProbs: true };
      if (!load.stream) return await engine.generate(text, options);
      for await (const _ of engine.stream(text, options));
    }),
  fetch: (load) =>
    drive(load, async () => {
      const response = await fetch(`${url}/generate`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          text,
          rid: crypto.randomUUID(),
          return_logprob: true,
          stream: load.stream,
          sampling_params: { max_new_tokens: load.tokens, temperature: 1 },
        }),
      });
      if (!load.stream) {
        const { output_ids, meta_info } = await response.json();
        const pairs: [number][] = meta_info.output_token_logprobs;
        return [Int32Array.from(output_ids), Float32Array.from(pairs, ([logProb]) => logProb)];
      }
      let rest = "";
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + part).split("\n");
        rest = lines.pop()!;
        for (const line of lines) if (line.startsWith("data: {")) JSON.parse(line.slice(6));
      }
    }),
  aiohttp: (load) => inPython({ url, ...load }),
};

/** The wrapper's: a history is rendered and made tokens, and the answer becomes a turn. */
const throughHistory = (load: Load) =>
  drive(load, () => wrapper.call({ history: [{ role: "user", content: text }] }));

const rows: SpeedRow[] = [];
function tell(row: SpeedRow): void {
  rows.push(row);
  console.log(`${row.name.padEnd(58)}${row.ratio.toFixed(2).padStart(7)}   ${row.figures}`);
}

async function compare(load: Load, unit: string): Promise<void> {
  const { tokens, concurrency, requests, stream } = load;
  const what = stream ? "event of a stream" : "request";
  const title = `${what}, ${tokens} tokens, ${concurrency} at once`;
  if (!title.includes(values.only)) return;
  const counts = stream ? requests * tokens : requests;
  const found = new Map(Object.keys(ways).map((name) => [name, [] as number[]]));
  for (const one of Object.values(ways)) await one({ ...load, requests: Math.ceil(requests / 4) });
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [name, way] of Object.entries(ways)) found.get(name)!.push(await way(load));
  }
  const cost = (name: string) => median(found.get(name)!) / counts * 1000;
  for (const [own, beside] of [["client", "fetch"], ["engine", "aiohttp"]] as const) {
    tell({
      name: `${own} / ${beside}: ${title}`,
      ratio: median(found.get(own)!.map((ms, i) => ms / found.get(beside)![i]!)),
      figures: `${cost(own).toFixed(0)} / ${cost(beside).toFixed(0)} us ${unit}`,
    });
  }
}

/** A turn of a history through the wrapper, of one long message of its own, beside aiohttp's request. */
async function compareHistory(concurrency: number): Promise<void> {
  const load = { tokens: 32, concurrency, requests: 1000, stream: false };
  const title = `history, 32 tokens, ${concurrency} at once`;
  if (!title.includes(values.only)) return;
  await throughHistory({ ...load, requests: 300 });
  const [own, beside]: [number[], number[]] = [[], []];
  for (let round = 0; round < Number(values.rounds); round++) {
    own.push(await throughHistory(load));
    beside.push(await ways.aiohttp!(load));
  }
  const us = (found: number[]) => (median(found) / load.requests * 1000).toFixed(0);
  tell({
    name: `wrapper / aiohttp: ${title}`,
    ratio: median(own.map((ms, i) => ms / beside[i]!)),
    figures: `${us(own)} / ${us(beside)} us each`,
  });
}

/** A fixed piece of work: what a figure without anything beside it is divided by. */
function yardstick(): number {
  const made = Array.from({ length: 2000 }, (_, i) => ({ id: i, text: "x".repeat(i % 50) }));
  const started = usedMs();
  for (let i = 0; i < 50; i++) JSON.parse(JSON.stringify(made));
  return usedMs() - started;
}

/** The longest time in which `run` held the loop, garbage collection in it. */
async function longestWorkMs(run: () => Promise<unknown>): Promise<number> {
  const work = watchWork();
  await run();
  work.stop();
  return work.mostMs;
}

/** As many plain calls, 128 at once, whose answers are held: what no caller can be without. */
async function heldByFetch(prompts: readonly string[]): Promise<unknown[]> {
  const held: unknown[] = [];
  let next = 0;
  const worker = async () => {
    while (next < prompts.length) {
      const body = JSON.stringify({
        text: prompts[next++],
        sampling_params: { max_new_tokens: 4 },
      });
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${url}/generate`, { method: "POST", headers, body });
      held.push(await response.json());
    }
  };
  await Promise.all(Array.from({ length: 128 }, worker));
  return held;
}

/** A call of many prompts: when its first answer comes and the longest time in which nothing else ran. */
async function manyPrompts(count: number): Promise<void> {
  const name = `a call of ${count} prompts`;
  if (!name.includes(values.only)) return;
  const prompts = Array.from({ length: count }, (_, i) => `prompt number ${i}`);
  await ordinary.generate(prompts.slice(0, 1000), { maxNewTokens: 4 });
  const base = median([yardstick(), yardstick(), yardstick()]);
  let first = 0;
  let ms = 0;
  const mostMs = await longestWorkMs(async () => {
    const began = performance.now();
    const startedAt = usedMs();
    await ordinary.generate(prompts, {
      maxNewTokens: 4,
      onProgress: () => first ||= performance.now() - began,
    });
    ms = usedMs() - startedAt;
  });
  const rss = (Deno.memoryUsage().rss / 2 ** 20).toFixed(0);
  const byFetchMs = await longestWorkMs(() => heldByFetch(prompts));
  tell({
    name: `${name} / fixed work, each prompt`,
    ratio: ms / count / base * 100,
    figures: `${(ms / count * 1000).toFixed(0)} us a prompt, first answer after ` +
      `${first.toFixed(0)} ms, most work of the loop between two timers of 2 ms ` +
      `${mostMs.toFixed(0)} ms (answers of fetch held: ${byFetchMs.toFixed(0)} ms), RSS ${rss} MiB`,
  });
}

async function cast(): Promise<void> {
  if (!"cast".includes(values.only)) return;
  const count = 16 * 2 ** 20;
  const source = new Float32Array(count).map((_, i) => i * 0.37);
  const target = new Uint16Array(count);
  float32ToBFloat16(source, target);
  const [own, beside]: [number[], number[]] = [[], []];
  for (let round = 0; round < Number(values.rounds); round++) {
    const started = usedMs();
    float32ToBFloat16(source, target);
    own.push(usedMs() - started);
    beside.push(await inPython({ cast: count }));
  }
  const rate = (ms: number) => `${(count * 4 / ms / 1e6).toFixed(1)} GB/s`;
  tell({
    name: "cast / torch on one thread: float32 to bfloat16",
    ratio: median(own.map((ms, i) => ms / beside[i]!)),
    figures: `${rate(median(own))} / ${rate(median(beside))}`,
  });
}

console.log(`ours / beside, time of the processor, median of ${values.rounds} rounds in turn`);
const whole = { stream: false } as const;
await compare({ ...whole, tokens: 32, concurrency: 1, requests: 2000 }, "each");
await compare({ ...whole, tokens: 32, concurrency: 64, requests: 2000 }, "each");
await compare({ ...whole, tokens: 32, concurrency: 512, requests: 2000 }, "each");
await compare({ ...whole, tokens: 512, concurrency: 64, requests: 600 }, "each");
await compare({ ...whole, tokens: 8192, concurrency: 64, requests: 128 }, "each");
await compare({ tokens: 64, concurrency: 64, requests: 200, stream: true }, "each");
await compareHistory(1);
await compareHistory(64);
await manyPrompts(20_000);
await manyPrompts(100_000);
await cast();
await orders.close();
await python.status;
server.kill();
await Deno.remove(tokenizer, { recursive: true });
if (values.json !== undefined) await Deno.writeTextFile(values.json, JSON.stringify(rows));
