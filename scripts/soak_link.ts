/**
 * Pushes weights from a torch process through a link into one server, many times in a row, and tells
 * what both sides hold after the third push and each tenth of them, and the median of this process's
 * memory in each tenth. Now and then another trainer is killed (-9) within a push.
 *
 * Run as `deno task soak:link [--pushes 100] [--megabytes 0] [--way shm|socket] [--real]
 * [--kill-every 0]`: the tiny model, or one of that many megabytes, on the embedded server or on the
 * real SGLang (0.5.23), whose checksum must be that of the same weights loaded from a file.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { SGLangClient } from "../src/client/mod.ts";
import { EmbeddedServer } from "../src/embedded/mod.ts";
import { TrainerLink } from "../src/trainer/mod.ts";
import { SGLangWeightSyncScheme } from "../src/weights/mod.ts";
import { LinkTrainer, startPlainTrainer } from "../tests/_support/link_trainer.ts";
import { median } from "../tests/_support/median.ts";
import { modelPath, startRealServer } from "../tests/_support/real.ts";

const { values } = parseArgs({
  options: {
    pushes: { type: "string", default: "100" },
    megabytes: { type: "string", default: "0" },
    way: { type: "string", default: "shm" },
    real: { type: "boolean", default: false },
    "kill-every": { type: "string", default: "0" },
  },
});
const [pushes, megabytes, killEvery] = [values.pushes, values.megabytes, values["kill-every"]]
  .map(Number) as [number, number, number];
const shmBefore = sharedMemory();
const folder = await Deno.makeTempDir({ prefix: "soak-link-" });
await using stack = new AsyncDisposableStack();
stack.defer(() => Deno.remove(folder, { recursive: true }));
const address = `unix:${folder}/trainer.sock`;
const trainer = stack.use(await LinkTrainer.start(address, { ways: [values.way] }));
const model = megabytes > 0 ? await makeModel() : modelPath("tiny1");
const tensors = await trainer.ask("load", { folder: model });
const server = stack.use(
  values.real
    ? await startRealServer({ version: "0.5.23", model })
    : await EmbeddedServer.start({ model }),
);
const link = stack.use(await TrainerLink.listen(address));
const verify = values.real ? "checksum" : "version";
const scheme = new SGLangWeightSyncScheme({ serverUrl: server.url, verify });
const sender = stack.use(scheme.createSender());
await sender.initAllWorkersGroup();

console.log(`${tensors} tensors of ${model} to ${server.url} by ${values.way}`);
const held: object[] = [];
const sums = new Set<string>();
let last: readonly string[] | undefined;
const killed: Promise<void>[] = [];
const tenth = Math.ceil(pushes / 10);
const resident: number[] = [];
const done = trainer.ask("pushes", { times: pushes });
for (let i = 0; i < pushes; i++) {
  if (killEvery > 0 && i % killEvery === killEvery - 1) killed.push(killOne());
  const report = await syncNext();
  last = report.checksums;
  for (const sum of last ?? []) sums.add(sum);
  resident.push(Deno.memoryUsage().rss / 1e6);
  if (i === Math.min(2, pushes - 1) || (i + 1) % tenth === 0) {
    held.push({ push: i + 1, ...await heldHere() });
    console.log(JSON.stringify(held.at(-1)));
  }
}
const { seconds, held: theirs } = await done;
// One that came too late to be taken up waits for the end of the link.
await Promise.race([Promise.all(killed), link.syncNext(sender).catch(() => {})]);
console.log(JSON.stringify(
  {
    pushes,
    way: values.way,
    kilobytesEach: Math.round(await bytesOf(model) / 1000),
    medianSeconds: median(seconds),
    slowestSeconds: Math.max(...seconds),
    differentChecksums: sums.size,
    asLoadedFromFile: values.real ? await isAsFromFile() : undefined,
    here: held,
    medianMegabytesOfTenths: Array.from(
      { length: Math.ceil(pushes / tenth) },
      (_, i) => Math.round(median(resident.slice(i * tenth, (i + 1) * tenth))),
    ),
    trainer: theirs,
    killedTrainers: killed.length,
    leftInDevShm: [...sharedMemory()].filter((name) =>
      name.startsWith("sglang-rl") && !shmBefore.has(name)
    ),
  },
  null,
  2,
));

/** The next push of the trainer that lives; one that was killed fails by name. */
async function syncNext() {
  for (;;) {
    try {
      return await link.syncNext(sender);
    } catch (error) {
      if (!/trainer plain ended in push/.test(String(error))) throw error;
    }
  }
}

function sharedMemory(): Set<string> {
  return new Set([...Deno.readDirSync("/dev/shm")].map(({ name }) => name));
}

/** What this process holds: resident memory, JavaScript's heap, descriptors, mapped rings. */
async function heldHere() {
  (globalThis as { gc?: () => void }).gc?.();
  const maps = await Deno.readTextFile("/proc/self/maps");
  return {
    megabytes: Math.round(Deno.memoryUsage().rss / 1e6),
    heapMegabytes: Math.round(Deno.memoryUsage().heapUsed / 1e6),
    descriptors: [...Deno.readDirSync("/proc/self/fd")].length,
    rings: maps.split("sglang-rl-trainer").length - 1,
  };
}

/** Another trainer that is killed within its push. */
async function killOne(): Promise<void> {
  await startPlainTrainer(address, values.way, { args: ["--die", "half"] }).output();
}

/** Whether a server that loads the trainer's weights from a file has the same checksum. */
async function isAsFromFile(): Promise<boolean> {
  const copy = `${folder}/copy`;
  await Deno.mkdir(copy);
  for (const { name } of Deno.readDirSync(model)) {
    if (!name.endsWith(".safetensors")) await Deno.copyFile(`${model}/${name}`, `${copy}/${name}`);
  }
  await trainer.ask("save", { folder: copy });
  await using client = new SGLangClient({ url: server.url });
  await client.updateWeightsFromDisk(copy);
  const checked = await client.weightsChecker("checksum");
  return JSON.stringify(checked).includes(last![0]!);
}

/** A random Qwen2 of about so many megabytes, with the tiny model's tokenizer. */
async function makeModel(): Promise<string> {
  const target = `${folder}/model`;
  await Deno.mkdir(target);
  for (const { name } of Deno.readDirSync(modelPath("tiny"))) {
    if (name.endsWith(".safetensors")) continue;
    await Deno.copyFile(`${modelPath("tiny")}/${name}`, `${target}/${name}`);
  }
  const [hidden, inner, heads, vocabulary] = [1024, 4096, 16, 1024];
  const layers = Math.max(1, Math.round((megabytes * 1e6 - 8 * hidden * vocabulary) / 60e6));
  const config = JSON.parse(await Deno.readTextFile(`${target}/config.json`));
  Object.assign(config, {
    hidden_size: hidden,
    intermediate_size: inner,
    num_attention_heads: heads,
    num_key_value_heads: 4,
    num_hidden_layers: layers,
    layer_types: Array(layers).fill("full_attention"),
    max_window_layers: layers,
  });
  await Deno.writeTextFile(`${target}/config.json`, JSON.stringify(config));
  const shapes: Record<string, number[]> = {
    "model.embed_tokens.weight": [vocabulary, hidden],
    "model.norm.weight": [hidden],
    "lm_head.weight": [vocabulary, hidden],
  };
  const keys = 4 * hidden / heads;
  for (let i = 0; i < layers; i++) {
    const layer = {
      "input_layernorm.weight": [hidden],
      "post_attention_layernorm.weight": [hidden],
      "self_attn.q_proj.weight": [hidden, hidden],
      "self_attn.q_proj.bias": [hidden],
      "self_attn.k_proj.weight": [keys, hidden],
      "self_attn.k_proj.bias": [keys],
      "self_attn.v_proj.weight": [keys, hidden],
      "self_attn.v_proj.bias": [keys],
      "self_attn.o_proj.weight": [hidden, hidden],
      "mlp.gate_proj.weight": [inner, hidden],
      "mlp.up_proj.weight": [inner, hidden],
      "mlp.down_proj.weight": [hidden, inner],
    };
    for (const [name, shape] of Object.entries(layer)) shapes[`model.layers.${i}.${name}`] = shape;
  }
  await trainer.ask("make", { shapes, dtype: "float32", seed: 1 });
  await trainer.ask("save", { folder: target });
  return target;
}

async function bytesOf(path: string): Promise<number> {
  let sum = 0;
  for (const { name } of Deno.readDirSync(path)) {
    if (name.endsWith(".safetensors")) sum += (await Deno.stat(`${path}/${name}`)).size;
  }
  return sum;
}
