/** Mixtures of experts on the real SGLang: which experts a token went to, and syncs by single names. */
import assert from "node:assert/strict";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import type { GenerateRequest } from "../../../src/client/mod.ts";
import { EnvironmentPool, promptEnvironment } from "../../../src/collector/environments/mod.ts";
import { LLMCollector, toJsonLines } from "../../../src/collector/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { safetensors, stateDict } from "../../../src/weights/source/mod.ts";
import { modelPath, startRealServer } from "../../_support/real.ts";
import { withoutPin } from "../adapters/_servers.ts";

const greedy = { temperature: 0, maxNewTokens: 4, ignoreEos: true } as const;
const prompt = [5, 6, 7, 8, 9];
const LAYERS = 2, TOP_K = 2, EXPERTS = 8;

/** The checkpoint with all weights of its experts halved. */
async function otherExperts(folder: string) {
  await using checkpoint = await openCheckpoint(folder);
  const tensors: Record<string, { data: Float32Array; shape: readonly number[] }> = {};
  for (const { name, shape } of checkpoint.tensors.values()) {
    const data = new Float32Array((await checkpoint.read(name)).buffer);
    tensors[name] = { data: name.includes("expert") ? data.map((x) => x / 2) : data, shape };
  }
  return tensors;
}

// A shared expert (Qwen2-MoE) needs Triton's kernels, which have no driver on a CPU.
Deno.test("experts: routes in samples and rows, and syncs of single experts", async (t) => {
  const folder = modelPath("moe");
  await using server = await startRealServer({
    model: "moe",
    ...withoutPin("0.5.23"),
    args: { enableReturnRoutedExperts: true, moeRunnerBackend: "triton" },
  });
  await using engine = await AsyncSGLang.connect(server.url);

  const generate = (more: Partial<GenerateRequest> = {}) =>
    engine.workers[0]!.client.generate({ inputIds: prompt, samplingParams: greedy, ...more });

  await t.step("all tokens, a part, and the sampled positions only", async () => {
    const of = async (more: Partial<GenerateRequest>) => (await generate(more)).routedExperts;
    const all = (await of({ returnRoutedExperts: true }))!;
    assert.deepEqual([all.start, all.tokens, all.perToken], [0, 8, LAYERS * TOP_K]);
    assert.ok(all.data.every((expert) => expert >= 0 && expert < EXPERTS));
    const sampled = (await of({ returnRoutedExperts: "sampled" }))!;
    assert.deepEqual([sampled.start, sampled.tokens], [4, 4]);
    assert.deepEqual(sampled.data, all.data.subarray(4 * LAYERS * TOP_K));
    const part = (await of({ returnRoutedExperts: true, routedExpertsStartLen: 2 }))!;
    assert.deepEqual(part.data, all.data.subarray(2 * LAYERS * TOP_K));
    assert.equal(await of({}), null);
  });

  await t.step("rows of a collector carry them", async () => {
    const policy = new SGLangWrapper(engine, {
      tokenizer: folder,
      generateKwargs: greedy,
      requestOptions: { returnRoutedExperts: "sampled" },
    });
    const pool = new EnvironmentPool(
      () => promptEnvironment({ prompts: ["Hello"], reward: () => 0 }),
      { size: 2 },
    );
    await using collector = new LLMCollector(pool, { policy, dialogTurnsPerBatch: 2 });
    const batch = (await collector.rollout())!;
    for (const { routedExperts, promptIds, responseIds } of batch.rows) {
      assert.equal(routedExperts!.start, promptIds!.length - 1);
      assert.equal(routedExperts!.tokens, responseIds.length);
    }
    const [line] = toJsonLines(batch).split("\n");
    assert.equal(JSON.parse(line!).routed_experts.tokens, 4);
  });

  await t.step(
    "a sync by the names of single experts changes the answers, and back",
    async () => {
      const answer = async () => [...(await generate()).ids];
      const before = await answer();
      await using sender = new SGLangWeightSyncScheme({ engine, transport: "gloo" })
        .createSender();
      await sender.initAllWorkersGroup();
      const other = await otherExperts(folder);
      const names = Object.keys(other).filter((name) => name.includes("expert"));
      assert.ok(names.includes("model.layers.1.mlp.experts.7.down_proj.weight"), names.join());
      await sender.updateWeights(stateDict(other));
      assert.notDeepEqual(await answer(), before);
      await sender.updateWeights(safetensors(folder));
      assert.deepEqual(await answer(), before);
    },
  );
});
