import assert from "node:assert/strict";
import { join } from "node:path";
import { EnvironmentPool, promptEnvironment } from "../../../src/collector/environments/mod.ts";
import { LLMCollector, type RolloutBatch } from "../../../src/collector/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { AbortedError, ValidationError } from "../../../src/errors.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { klReward, scoreRows } from "../../../src/reference/mod.ts";
import { klPenalty } from "../../../src/training/mod.ts";

/** Two servers with different weights. */
async function withServers(
  run: (engines: { policy: AsyncSGLang; other: AsyncSGLang; folder: string }) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await makeTinyCheckpoint(join(folder, "a"), { seed: 0 });
    await makeTinyCheckpoint(join(folder, "b"), { seed: 1 });
    await using first = await EmbeddedServer.start({ model: join(folder, "a") });
    await using second = await EmbeddedServer.start({ model: join(folder, "b") });
    await using policy = await AsyncSGLang.connect(first.url);
    await using other = await AsyncSGLang.connect(second.url);
    await run({ policy, other, folder: join(folder, "a") });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function collected(
  engine: AsyncSGLang,
  folder: string,
  postproc?: ReturnType<typeof klReward>,
): Promise<RolloutBatch> {
  const prompts = ["a", "two words", "Why is the sky blue?"];
  const make = () => promptEnvironment({ prompts, reward: () => 1 });
  await using collector = new LLMCollector(new EnvironmentPool(make, { size: 8 }), {
    policy: new SGLangWrapper(engine, { tokenizer: folder, generateKwargs: { maxNewTokens: 7 } }),
    dialogTurnsPerBatch: 12,
    totalDialogs: 12,
    maxStaleness: 3,
    ...(postproc === undefined ? {} : { postproc }),
  });
  return (await collector.rollout())!;
}

Deno.test("the servers that sampled rows score them as they were sampled, others otherwise", async () => {
  await withServers(async ({ policy, other, folder }) => {
    const { rows } = await collected(policy, folder);
    for (const [i, scores] of (await scoreRows(rows, policy)).entries()) {
      const { logProbs } = rows[i]!;
      assert.equal(scores.length, logProbs!.length);
      for (const [at, score] of scores.entries()) {
        assert.ok(Math.abs(score - logProbs![at]!) < 1e-3, `${score} is not ${logProbs![at]}`);
      }
    }
    const others = await scoreRows(rows, other);
    assert.ok(others.some((scores, i) => Math.abs(scores[0]! - rows[i]!.logProbs![0]!) > 1e-3));
  });
});

Deno.test("the divergence from a reference is taken from the reward and told, and all else stays", async () => {
  await withServers(async ({ policy, other, folder }) => {
    for (const estimator of ["k1", "k3"] as const) {
      const seen: RolloutBatch[] = [];
      const change = klReward({ reference: other, coefficient: 0.25, estimator });
      const changed = await collected(policy, folder, (batch, context) => {
        seen.push(batch);
        return change(batch, context);
      });
      const [before] = seen;
      const scores = await scoreRows(before!.rows, other);
      for (const [i, row] of changed.rows.entries()) {
        const { reward, info, ...rest } = row;
        const was = before!.rows[i]!;
        const expected = klPenalty(was.logProbs!, scores[i]!, { coefficient: 1, estimator })
          .reduce((sum, value) => sum + value, 0);
        assert.ok(Math.abs(info.kl as number - expected) < 1e-6);
        assert.equal(reward, 1 - 0.25 * (info.kl as number));
        const { reward: _, info: __, ...others } = was;
        assert.deepEqual(rest, others);
      }
      assert.deepEqual(changed.versionNames, before!.versionNames);
    }
  });
});

Deno.test("rows that cannot be scored are refused by name before anything is sent", async () => {
  await withServers(async ({ policy, folder }) => {
    const batch = await collected(policy, folder);
    const rows = batch.rows.map((row, i) => i === 3 ? { ...row, promptIds: null } : row);
    await assert.rejects(scoreRows(rows, policy), {
      name: "ValidationError",
      message: /turn 0 of dialog \d+: the ids of its prompt are not known/,
    });
    await assert.rejects(
      scoreRows(batch.rows, policy, { signal: AbortSignal.abort() }),
      AbortedError,
    );
    const options = { reference: policy, coefficient: 0.1 };
    assert.throws(() => klReward({ ...options, coefficient: 0 }), ValidationError);
    assert.throws(
      () => klReward({ ...options, estimator: "k4" as "k1" }),
      /must be one of "k1", "k2"/,
    );
    assert.throws(() => klReward({ ...options, coeficient: 1 } as never), /did you mean/);
  });
});
