/**
 * Start two SGLang servers with the router in front of them, generate, and end them. They end with
 * this program, however it ends.
 *
 *     deno run --allow-run=python3 --allow-net=127.0.0.1 examples/managed.ts MODEL
 *     deno run --allow-run=/sglang/bin/python,/router/bin/python --allow-net=127.0.0.1 \
 *       examples/managed.ts MODEL --python /sglang/bin/python --router-python /router/bin/python
 *
 * MODEL is a folder or a name on the Hugging Face hub. `--cpu` runs without a GPU.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { AsyncSGLang } from "@sglang-rl/sglang-rl";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    python: { type: "string", default: "python3" },
    "router-python": { type: "string" },
    cpu: { type: "boolean", default: false },
  },
});
const [model = "Qwen/Qwen2.5-0.5B-Instruct"] = positionals;
const { python, "router-python": routerPython = python } = values;

// Ctrl-C ends the launch, or the program; the servers go with it.
const stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort(new Error("interrupted")));

await using engine = await AsyncSGLang.fromPretrained(model, {
  numReplicas: 2,
  python,
  router: { python: routerPython },
  // What a server says while it loads, every now and then.
  onProgress: ({ elapsedMs, lastLine = "" }) =>
    console.error(`${(elapsedMs / 1000).toFixed(0)} s: ${lastLine}`),
  ...(values.cpu ? { device: "cpu", dtype: "float32", maxTotalTokens: 8192 } : {}),
  signal: stop.signal,
});
console.log(`router ${engine.url}, servers ${engine.workers.map(({ url }) => url).join(", ")}`);

const prompts = Array.from({ length: 16 }, (_, i) => `What comes after ${i}?`);
const samples = await engine.generate(prompts, { maxNewTokens: 16, signal: stop.signal });
const tokens = samples.reduce((sum, { ids }) => sum + ids.length, 0);
console.log(`${samples.length} samples, ${tokens} tokens`);
for (const { server, running } of await engine.load()) console.log(`${server}: ${running} running`);
