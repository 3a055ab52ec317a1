import assert from "node:assert/strict";
import { trainGrpo } from "../../../examples/grpo/loop.ts";
import { trainWithPython } from "../../../examples/python_trainer/loop.ts";
import { mean } from "../../../examples/evolution_strategies/curve.ts";
import { type Environment, EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { LLMCollector, type RolloutRow } from "../../../src/collector/mod.ts";
import type { AsyncSGLang } from "../../../src/engine/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { modelPath, pythonOf } from "../../_support/real.ts";
import { weightsThatSay } from "../../unit/collector/_weights_that_say.ts";
import { OwnServers, versions } from "./_servers.ts";

const root = new URL("../../../", import.meta.url).pathname;
/** Weights of sync `n` say this token. */
const firstToken = 100;

Deno.test("the collector on real servers", async (t) => {
  await using servers = await OwnServers.start();

  for (const [i, version] of versions.entries()) {
    await t.step(
      // case 108
      `every token has the version of the sync that made it (${version})`,
      () => checkVersions(servers.engines[i]!),
    );
    await t.step(
      `a turn that begins while a sync holds the server has the new version (${version})`,
      () => checkHeldTurn(servers.engines[i]!),
    );
  }
  await servers.restore();

  await t.step(
    "a trainer in Python raises the reward; its log-probabilities are ours",
    async () => {
      const workFolder = await Deno.makeTempDir();
      try {
        const steps = await Array.fromAsync(trainWithPython({
          engine: servers.engines[0]!,
          checkpoint: modelPath("tiny"),
          python: pythonOf(),
          workFolder,
          steps: 20,
        }));
        const rewards = steps.map((step) => step.mean_reward);
        const [first, last] = [mean(rewards.slice(0, 3)), mean(rewards.slice(-3))];
        assert.ok(last > 1.5 * first, `reward went from ${first} to ${last}`);
        assert.ok(steps.every((step) => step.log_prob_gap < 1e-3));
      } finally {
        await Deno.remove(workFolder, { recursive: true });
      }
    },
  );
  await servers.restore();

  await t.step("GRPO learns to call a tool, its rows and weights over the link", async () => {
    const runFolder = await Deno.makeTempDir();
    try {
      const steps = await Array.fromAsync(trainGrpo({
        // 0.5.16 takes longer to flush its cache.
        engine: servers.engines[versions.indexOf("0.5.23")]!,
        checkpoint: modelPath("tiny"),
        python: pythonOf(),
        runFolder,
        steps: 20,
        by: "link",
      }));
      assert.equal(steps.length, 20);
      // Server and trainer compute the same of weights that they share.
      assert.ok(steps[0]!.k3 < 1e-5, `k3 is ${steps[0]!.k3}`);
      for (const name of ["reward", "lookedUp"] as const) {
        const values = steps.map((step) => step[name]);
        const [first, last] = [mean(values.slice(0, 5)), mean(values.slice(-5))];
        assert.ok(last > 1.3 * first, `${name} went from ${first} to ${last}`);
      }
    } finally {
      await Deno.remove(runFolder, { recursive: true });
    }
  });
  await servers.restore();

  await t.step("evolution strategies climb on a real server by gloo", async () => {
    // 0.5.16 takes 0.3 s to flush its cache, once for each of 192 candidates.
    const engine = servers.engines[versions.indexOf("0.5.23")]!;
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--allow-all",
        `${root}examples/evolution_strategies.ts`,
        `--server=${engine.url}`,
        `--model=${modelPath("tiny")}`,
      ],
    }).output();
    const said = new TextDecoder().decode(stdout);
    assert.equal(code, 0, said + new TextDecoder().decode(stderr));
    const [, first, last] = /first tenth ([\d.]+), last tenth ([\d.]+)/.exec(said) ?? [];
    assert.ok(Number(last) > Number(first), said);
    assert.match(said, /\(gloo\)/);
  });
});

/** Collects one dialog whose second turn begins when a sync has paused the server. */
async function checkHeldTurn(engine: AsyncSGLang): Promise<void> {
  const model = modelPath("tiny");
  const asked = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const environment: Environment = {
    reset: () => ({ messages: [{ role: "user", content: "Say it" }] }),
    step: async ({ turn }) => {
      asked.resolve();
      await held.promise;
      return { messages: [{ role: "user", content: "Again" }], reward: 0, done: turn === 1 };
    },
  };
  const policy = new SGLangWrapper(engine, {
    generateKwargs: { maxNewTokens: 20, ignoreEos: true },
    tokenizer: model,
  });
  await using collector = new LLMCollector([environment], {
    policy,
    dialogTurnsPerBatch: 2,
    totalDialogs: 1,
    trackPolicyVersion: true,
  });
  await using sender = new SGLangWeightSyncScheme({ serverUrl: engine.url }).createSender();
  sender.registerCollector(collector);
  await sender.initAllWorkersGroup();
  await sender.updateWeights(await weightsThatSay(firstToken + 1, model), { version: "held-1" });
  const batch = collector.rollout();
  await asked.promise;
  await sender.updateWeights(await weightsThatSay(firstToken + 2, model), {
    version: "held-2",
    onProgress: ({ phase }) => {
      if (phase === "update") held.resolve();
    },
  });
  const rows = (await batch)!.rows;
  assert.deepEqual(rows.map((row) => [...new Set(row.responseIds)]), [
    [firstToken + 1],
    [firstToken + 2],
  ]);
  assert.deepEqual(rows.map((row) => [...new Set(row.tokenVersions)]), [[1], [2]]);
  assert.ok(rows.every((row) => row.versionsExact));
}

/** Collects two-turn dialogs while weights are pushed; what was said tells who said it. */
async function checkVersions(engine: AsyncSGLang): Promise<void> {
  const model = modelPath("tiny");
  const policy = new SGLangWrapper(engine, {
    generateKwargs: { maxNewTokens: 150, ignoreEos: true },
    tokenizer: model,
  });
  const environment = (): Environment => ({
    reset: () => ({ messages: [{ role: "user", content: "Say it" }] }),
    step: ({ turn }) => ({
      messages: [{ role: "user", content: "Again" }],
      reward: 0,
      done: turn === 1,
    }),
  });
  await using collector = new LLMCollector(new EnvironmentPool(environment, { size: 8 }), {
    policy,
    dialogTurnsPerBatch: 16,
    yieldCompletedTrajectories: true,
    trackPolicyVersion: true,
  });
  const scheme = new SGLangWeightSyncScheme({ serverUrl: engine.url });
  await using sender = scheme.createSender();
  sender.registerCollector(collector);
  await sender.initAllWorkersGroup();
  await sender.updateWeights(await weightsThatSay(firstToken + 1, model), { version: "sync-1" });
  const rows: RolloutRow[] = [];
  let isDone = false;
  const reading = (async () => {
    while (!isDone) rows.push(...(await collector.rollout())!.rows);
  })();
  reading.catch(() => {});
  for (let sync = 2; sync <= 6; sync++) {
    const seen = collector.stats.turns;
    while (collector.stats.turns < seen + 4) await new Promise((wake) => setTimeout(wake, 10));
    // Not in step with the turns: of a generation that is cut, servers keep ids by fifties.
    await new Promise((wake) => setTimeout(wake, sync * 80));
    const weights = await weightsThatSay(firstToken + sync, model);
    await sender.updateWeights(weights, { version: `sync-${sync}` });
  }
  isDone = true;
  await reading;

  assert.equal(collector.policyVersion, 6);
  for (const row of rows) {
    assert.equal(row.versionsExact, true);
    assert.equal(row.responseIds.length, 150);
    const said = Array.from(row.responseIds, (id) => id - firstToken);
    assert.deepEqual([...row.tokenVersions!], said);
  }
  assert.ok(rows.some((row) => new Set(row.responseIds).size > 1), "no generation was cut");
}
