/**
 * Generate with running servers: one prompt, many at once with log-probabilities, a stream, and an
 * abort in the middle.
 *
 *     deno run --allow-net=127.0.0.1:30000 examples/generate.ts http://127.0.0.1:30000
 *
 * Several addresses are used together; each needs its own HOST:PORT in the flag.
 */
// deno-lint-ignore-file no-console
import { AsyncSGLang } from "@sglang-rl/sglang-rl";

const urls = Deno.args.length > 0 ? Deno.args : ["http://127.0.0.1:30000"];
await using engine = await AsyncSGLang.connect(urls);

// One prompt gives one sample. Greedy, so that it is the same every time.
const sample = await engine.generate("The capital of France is", {
  maxNewTokens: 8,
  temperature: 0,
});
console.log("one:", JSON.stringify(sample.text), sample.finishReason.type);

// Many prompts are sent all at once; the answers keep their order.
const prompts = ["2 + 2 =", "The moon is", "Bread is made of"];
const samples = await engine.generate(prompts, { maxNewTokens: 8, returnLogProbs: true });
for (const [i, { ids, logProbs, weightVersion }] of samples.entries()) {
  const sum = logProbs!.reduce((total, value) => total + value, 0);
  console.log(`${prompts[i]} ${ids.length} tokens, log-prob ${sum.toFixed(2)}, ${weightVersion}`);
}

// Several samples of one prompt, as GRPO wants them.
const group = await engine.generate("Name a colour.", { n: 4, maxNewTokens: 4 });
console.log("group:", group.map(({ text }) => JSON.stringify(text)).join(" "));

// A stream gives what is new in each step; the last step has the whole sample.
let steps = 0;
for await (const { final } of engine.stream("Once upon a time", { maxNewTokens: 16 })) {
  steps++;
  if (final !== null) console.log(`stream: ${final.ids.length} tokens in ${steps} steps`);
}

// An abort ends the request on the server too, and nothing is left to wait for.
const stop = new AbortController();
try {
  const stream = engine.stream("Count to a million", {
    maxNewTokens: 500,
    ignoreEos: true,
    signal: stop.signal,
  });
  for await (const _ of stream) stop.abort(new Error("seen enough"));
} catch (error) {
  console.log("abort:", (error as Error).name);
}
