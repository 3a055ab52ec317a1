/**
 * Tokens a second of the embedded server beside torch on one thread (transformers, float32, with its
 * cache of keys and values), both with the same checkpoint, at some numbers of requests at once. Time
 * is of the processor, rounds take turns.
 *
 * Run as `deno run -A bench/embedded.ts [--rounds 3] [--requests 1,8,32,64] [--tokens 64]
 * [--size 10.7M|64k|137M] [--python PYTHON]`.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { EmbeddedServer, makeTinyCheckpoint } from "../src/embedded/mod.ts";
import { parseModelConfig, weightShapes } from "../src/embedded/model/config.ts";
import { SeedStream } from "../src/embedded/scheduler/random.ts";
import { AsyncSGLang } from "../src/engine/mod.ts";
import { writeSafetensors } from "../src/checkpoint/mod.ts";
import { median } from "../tests/_support/median.ts";
import { usedMs } from "../tests/_support/processor_time.ts";
import { pythonOf } from "../tests/_support/real.ts";
import { startPython } from "./speed/python.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    requests: { type: "string", default: "1,8,32,64" },
    tokens: { type: "string", default: "64" },
    size: { type: "string", default: "10.7M" },
    python: { type: "string", default: pythonOf() },
  },
});
const sizes: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  "64k": {},
  "10.7M": {
    hidden_size: 384,
    intermediate_size: 976,
    num_hidden_layers: 6,
    num_attention_heads: 6,
    num_key_value_heads: 6,
  },
  "137M": {
    hidden_size: 1024,
    intermediate_size: 2816,
    num_hidden_layers: 11,
    num_attention_heads: 16,
    num_key_value_heads: 16,
  },
};
const changes = sizes[values.size];
if (changes === undefined) throw new Error(`--size is one of ${Object.keys(sizes).join(", ")}`);

const folder = await Deno.makeTempDir();
await makeTinyCheckpoint(folder, { tied: true, dtype: "float32" });
const config = { ...JSON.parse(await Deno.readTextFile(`${folder}/config.json`)), ...changes };
await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
const random = new SeedStream(1);
const shapes = [...weightShapes(parseModelConfig(config))];
await writeSafetensors(
  `${folder}/model.safetensors`,
  shapes.map(([name, shape]) => {
    const length = shape.reduce((total, size) => total * size, 1);
    const data = Float32Array.from({ length }, () => 0.02 * random.normal());
    return {
      name,
      dtype: "float32" as const,
      shape,
      data: name.includes("norm") ? data.fill(1) : data,
    };
  }),
);
const parameters = shapes.reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b, 1), 0);
console.log(`${(parameters / 1e6).toFixed(1)}M parameters, ${values.tokens} tokens a request`);

await using server = await EmbeddedServer.start({ model: folder });
await using engine = await AsyncSGLang.connect(server.url);
await using python = startPython(values.python, "embedded.py");
const tokens = Number(values.tokens);
for (const count of values.requests.split(",").map(Number)) {
  const inputIds = Array.from({ length: count }, (_, i) => [10 + i % 90, 20, 30, 40]);
  const ours = async () => {
    const started = usedMs();
    await engine.generate({ inputIds }, {
      maxNewTokens: tokens,
      ignoreEos: true,
      returnLogProbs: true,
      temperature: 1,
    });
    return usedMs() - started;
  };
  const torch = () => python.ask({ folder, inputIds, tokens });
  const found: [number, number][] = [];
  for (let round = 0; round <= Number(values.rounds); round++) {
    found.push([await ours(), await torch()]);
  }
  // The first round warms both.
  found.shift();
  const rate = (ms: number) => (count * tokens / ms * 1000).toFixed(0).padStart(6);
  const [own, beside] = [0, 1].map((side) => median(found.map((pair) => pair[side]!)));
  console.log(
    `${`${count}`.padStart(3)} at once: ${rate(own!)} tokens/s, torch ${
      rate(beside!)
    }, ours / torch ${median(found.map(([a, b]) => b / a)).toFixed(2)}`,
  );
}
await Deno.remove(folder, { recursive: true });
