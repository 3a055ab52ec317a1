/** A model's output head may stay behind only where the model has none of its own. */
import type { GivenOptions, WeightSyncOptions } from "../../../src/weights/options.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { metadataOf, SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { safetensors, type WeightSource } from "../../../src/weights/source/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

const HEAD = "lm_head.weight";

/** The same source with other names: without the head, or with one that is the embedding. */
function renamed(source: WeightSource, how: "headless" | "with head"): WeightSource {
  return {
    label: `${source.label}, ${how}`,
    async open(options) {
      const open = await source.open(options);
      const kept = open.tensors.map((_, i) => i).filter((i) => open.tensors[i]!.name !== HEAD);
      const embedding = kept.find((i) => open.tensors[i]!.name === "model.embed_tokens.weight")!;
      const all = how === "headless" ? kept : [...kept, embedding];
      const tensors = all.map((i, at) =>
        at < kept.length ? open.tensors[i]! : { ...open.tensors[i]!, name: HEAD }
      );
      return {
        tensors,
        view: () => undefined,
        read: (index, target, call) => open.read(all[index]!, target, call),
        [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
      };
    },
  };
}

async function sync(model: string, source: WeightSource, options: GivenOptions = {}) {
  await using server = await EmbeddedServer.start({ model });
  await using sender = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    transport: "gloo",
    env: () => undefined,
    ...options,
  } as WeightSyncOptions).createSender();
  await sender.initAllWorkersGroup();
  const report = await sender.updateWeights(source);
  assert.equal(server.stats.weightVersion, "1");
  return report;
}

Deno.test("an untied model without its head is refused, by default and with any verify", async () => {
  const model = await tinyCheckpoint({ tied: false });
  for (const verify of ["version", "sample", "checksum"] as const) {
    await assert.rejects(sync(model, renamed(safetensors(model), "headless"), { verify }), {
      code: "validation",
      message: /Weight 'lm_head\.weight' not found in weights/,
    });
  }
  assert.equal((await sync(model, safetensors(model))).notSent.length, 0);
});

Deno.test("a tied model takes weights with and without the head, which stays behind", async () => {
  const model = await tinyCheckpoint({ tied: true });
  assert.deepEqual((await sync(model, renamed(safetensors(model), "headless"))).notSent, []);
  assert.deepEqual((await sync(model, renamed(safetensors(model), "with head"))).notSent, [HEAD]);
});

Deno.test("a head is unknown to a model without one whose config does not say that it is tied", async () => {
  const model = await tinyCheckpoint({ tied: true });
  await using folder = await temporaryFolder();
  for (const name of ["model.safetensors", "tokenizer.json", "tokenizer_config.json"]) {
    await Deno.copyFile(join(model, name), join(folder.path, name)).catch(() => {});
  }
  const config = JSON.parse(await Deno.readTextFile(join(model, "config.json")));
  const write = (value: unknown) =>
    Deno.writeTextFile(join(folder.path, "config.json"), JSON.stringify(value));
  await write(config);
  await using server = await EmbeddedServer.start({ model: folder.path });
  await using sender = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    transport: "gloo",
    env: () => undefined,
  }).createSender();
  await sender.initAllWorkersGroup();
  await write({ ...config, tie_word_embeddings: false });
  await assert.rejects(
    sender.updateWeights(renamed(safetensors(model), "with head")),
    /'lm_head\.weight' is unknown to the model/,
  );
});

Deno.test("tiedWeights is the user's word, also for an untied model and for declared weights", async () => {
  const model = await tinyCheckpoint({ tied: false });
  const tiedWeights = { [HEAD]: "model.embed_tokens.weight" };
  const headless = renamed(safetensors(model), "headless");
  await sync(model, headless, { tiedWeights });
  await using server = await EmbeddedServer.start({ model });
  await using sender = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    transport: "gloo",
    env: () => undefined,
  }).createSender();
  await sender.initAllWorkersGroup(await metadataOf(safetensors(model)));
  await assert.rejects(sender.updateWeights(headless), /'lm_head\.weight' not found/);
});
