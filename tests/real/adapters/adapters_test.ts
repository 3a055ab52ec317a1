/** Adapters on the real SGLang, beside the embedded server with the same requests. */
import assert from "node:assert/strict";
import { LoraSyncScheme } from "../../../src/adapters/mod.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { testAdapter, testLora, writePeftFolder } from "../../_support/adapters.ts";
import { modelPath, type SGLangVersion } from "../../_support/real.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { compareAnswers, send } from "../embedded/_support.ts";
import { startLoraServer } from "./_servers.ts";

const greedy = { temperature: 0, maxNewTokens: 12, ignoreEos: true } as const;
const versions: readonly SGLangVersion[] = ["0.5.16", "0.5.23"];

for (const version of versions) {
  Deno.test(`adapters on SGLang ${version} and on the embedded server are the same`, async (t) => {
    const model = modelPath("tiny");
    await using real = await startLoraServer(version);
    await using embedded = await EmbeddedServer.start({ model, version, lora: testLora });
    const both = [real, embedded];
    const setUps = await Promise.all(both.map(async ({ url }) => {
      const engine = await AsyncSGLang.connect(url);
      return { engine, sender: new LoraSyncScheme({ engine }).createSender() };
    }));
    await using stack = new AsyncDisposableStack();
    for (const { engine, sender } of setUps) {
      stack.use(engine);
      stack.use(sender);
    }
    const adapters = {
      all: await testAdapter(model, { seed: 1 }),
      "rank 8": await testAdapter(model, { seed: 2, rank: 8 }),
      "q alone": await testAdapter(model, { seed: 3, modules: ["q_proj"] }),
      "k alone": await testAdapter(model, { seed: 4, modules: ["k_proj"] }),
      "q and v": await testAdapter(model, { seed: 5, modules: ["q_proj", "v_proj"] }),
      "up alone": await testAdapter(model, { seed: 6, modules: ["up_proj"] }),
      "o and down": await testAdapter(model, { seed: 7, modules: ["o_proj", "down_proj"] }),
      rslora: await testAdapter(model, { seed: 8, config: { use_rslora: true } }),
    };
    for (const [what, adapter] of Object.entries(adapters)) {
      await t.step(`the same tokens and log-probabilities: ${what}`, async () => {
        const names = await Promise.all(
          setUps.map(async ({ sender }) => (await sender.updateAdapter(adapter)).name),
        );
        assert.equal(names[0], names[1]);
        const body = {
          input_ids: [655, 430, 434, 811, 72, 78],
          lora_path: names[0],
          return_logprob: true,
          logprob_start_len: 0,
          sampling_params: { max_new_tokens: 12, temperature: 0, ignore_eos: true },
        };
        const [theirs, ours] = await Promise.all(
          both.map(({ url }) => send(url, "/generate", body)),
        );
        assert.equal(theirs!.status, 200, JSON.stringify(theirs!.body));
        compareAnswers(ours!.body, theirs!.body);
      });
    }

    await t.step("by path, by value, and beside the base model in one batch", async () => {
      await using folder = await temporaryFolder();
      await writePeftFolder(folder.path, adapters.all);
      const { engine } = setUps[0]!;
      await using sender = new LoraSyncScheme({ engine, via: "path" }).createSender();
      await sender.updateAdapter(folder.path, { name: "path" });
      await using byValue = new LoraSyncScheme({ engine, via: "tensors" }).createSender();
      await byValue.updateAdapter(adapters.all, { name: "value" });
      const [path, value, base] = await Promise.all(
        ["path", "value", undefined].map((lora) =>
          engine.generate("Hello world", { ...greedy, lora })
        ),
      );
      assert.deepEqual(path!.ids, value!.ids);
      assert.notDeepEqual(path!.ids, base!.ids);
      assert.equal(path!.weightVersion, "path@1");
      assert.equal(base!.weightVersion, "default");
    });

    await t.step("errors have the same fields, and SGLang's own words", async () => {
      for (
        const [path, body, hasItsWords] of [
          ["/unload_lora_adapter", { lora_name: "nobody" }, true],
          ["/generate", { text: "a", lora_path: "nobody@1" }, true],
          // What is said of a folder comes from a library of Hugging Face.
          ["/load_lora_adapter", { lora_name: "path@1", lora_path: "/nowhere/at/all" }, false],
        ] as const
      ) {
        const [theirs, ours] = await Promise.all(both.map(({ url }) => send(url, path, body)));
        assert.equal(ours!.status, theirs!.status, path);
        const keys = [ours, theirs].map((answer) => Object.keys(answer!.body as object));
        assert.deepEqual(keys[0], keys[1]);
        if (!hasItsWords) continue;
        // Each lists the adapters that it has.
        const words = [ours, theirs].map((answer) =>
          JSON.stringify(answer!.body).replaceAll(/\[.*?\]/g, "[]")
        );
        assert.equal(words[0], words[1]);
      }
    });

    await t.step("an adapter that is in use stays until its call ends", async () => {
      const { engine, sender } = setUps[0]!;
      const name = engine.adapters.newest.get("policy")!;
      const long = engine.generate("Hello", { ...greedy, maxNewTokens: 200, lora: "policy" });
      for (const seed of [11, 12, 13]) {
        await sender.updateAdapter(await testAdapter(model, { seed }));
      }
      assert.equal((await long).weightVersion, name);
      assert.equal((await long).ids.length, 200);
      await engine.adapters.idle();
      const { client } = engine.workers[0]!;
      assert.ok(!(await client.loadedLoras()).includes(name));
    });
  });
}
