import assert from "node:assert/strict";
import { promptEnvironment } from "../../../src/collector/environments/mod.ts";
import { EnvironmentPool, LLMCollector, type RolloutRow, safetensors } from "../../../mod.ts";
import type { AsyncSGLang } from "../../../src/engine/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { scoreRows } from "../../../src/reference/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { seeded } from "../../_support/seeded.ts";
import { modelPath } from "../../_support/real.ts";
import { OwnServers, versions } from "./_servers.ts";

const GROUPS = 32;
const SIZE = 4;
const MAX_STALENESS = 1;
const LONGEST_MS = 240_000;

Deno.test("groups on real servers", async (t) => {
  await using servers = await OwnServers.start();
  for (const [i, version] of versions.entries()) {
    const engine = servers.engines[i]!;
    await t.step(
      `come whole, once and not too old, while dialogs fail, are aborted and syncs happen (${version})`,
      () => checkGroups(engine),
    );
    await t.step(
      `rows score on the server as they were sampled (${version})`,
      () => checkScores(engine),
    );
  }
});

async function checkGroups(engine: AsyncSGLang): Promise<void> {
  const random = seeded(18);
  let [faults, aborts, syncs] = [0, 0, 0];
  const make = () => {
    const inner = promptEnvironment({ prompts: ["a", "b", "c", "d", "e"], reward: () => 1 });
    return {
      reset: inner.reset,
      step: async (action: Parameters<typeof inner.step>[0]) => {
        if (random() < 0.1) throw new Error(`grader lost ${faults++}`);
        const step = await inner.step(action);
        const isMore = action.turn === 0 && random() < 0.5;
        return isMore
          ? { messages: [{ role: "user", content: "Go on" }], reward: 0, done: false }
          : step;
      },
    };
  };
  await using collector = new LLMCollector(new EnvironmentPool(make, { size: 24 }), {
    policy: new SGLangWrapper(engine, {
      generateKwargs: { maxNewTokens: 16, ignoreEos: true },
      tokenizer: modelPath("tiny"),
    }),
    dialogTurnsPerBatch: 32,
    totalDialogs: GROUPS * SIZE,
    groupSize: SIZE,
    maxGroupRefills: 1_000,
    overSample: 1,
    maxStaleness: MAX_STALENESS,
    onStale: "retry",
    onDialogError: "skip",
    signal: AbortSignal.timeout(LONGEST_MS),
  });
  await using sender = new SGLangWeightSyncScheme({ engine }).createSender();
  sender.registerCollector(collector);
  await sender.initAllWorkersGroup();
  let isDone = false;
  /** Something that happens to the servers again and again while the groups are collected. */
  const again = async (everyMs: number, work: () => Promise<unknown>) => {
    while (!isDone) {
      await work();
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  };
  const trouble = Promise.all([
    // Often, so that a quick machine is not done before there was some of each.
    again(300, () => (aborts++, engine.abort("all"))),
    again(
      500,
      () => sender.updateWeights(safetensors(modelPath(syncs++ % 2 === 0 ? "tiny1" : "tiny"))),
    ),
  ]);
  trouble.catch(() => {});
  const groups = new Map<number, readonly RolloutRow[]>();
  try {
    for await (const batch of collector) {
      for (const dialogs of batch.groups()) {
        const rows = dialogs.flatMap((dialog) => dialog.rows);
        const { group } = rows[0]!;
        assert.ok(!groups.has(group), `group ${group} came twice`);
        groups.set(group, rows);
        assert.equal(new Set(dialogs.map(({ dialog }) => dialog)).size, SIZE, `group ${group}`);
        assert.ok(dialogs.every((dialog) => dialog.rows.at(-1)!.done), `group ${group}`);
        const made = rows.flatMap((row) => [...row.tokenVersions!]);
        const age = batch.versionIndex! - Math.min(...made);
        assert.ok(age <= MAX_STALENESS, `group ${group} is ${age} versions old`);
      }
    }
  } finally {
    isDone = true;
    await trouble;
  }
  const { stats } = collector;
  const { staleDropped, groupsDropped } = stats;
  // Whoever is stale eight times is left out, and counted.
  assert.equal(groups.size + staleDropped / SIZE, GROUPS, JSON.stringify(stats));
  assert.equal(groupsDropped, 0);
  assert.ok(faults > 10 && aborts > 2 && syncs > 1, `${faults}, ${aborts}, ${syncs}`);
  const { dialogsStarted, dialogsCompleted, dialogsFailed, dialogsAbandoned } = stats;
  assert.equal(dialogsStarted, dialogsCompleted + dialogsFailed + dialogsAbandoned);
}

async function checkScores(engine: AsyncSGLang): Promise<void> {
  const make = () => promptEnvironment({ prompts: ["a", "a longer one"], reward: () => 1 });
  await using collector = new LLMCollector(new EnvironmentPool(make, { size: 8 }), {
    policy: new SGLangWrapper(engine, {
      generateKwargs: { maxNewTokens: 20, temperature: 1, ignoreEos: true },
      tokenizer: modelPath("tiny"),
    }),
    dialogTurnsPerBatch: 16,
    totalDialogs: 16,
    groupSize: SIZE,
  });
  const { rows } = (await collector.rollout())!;
  const scores = await scoreRows(rows, engine);
  assert.equal(rows.length, 16);
  for (const [i, { logProbs }] of rows.entries()) {
    assert.equal(scores[i]!.length, logProbs!.length);
    const far = Math.max(...logProbs!.map((p, at) => Math.abs(p - scores[i]![at]!)));
    assert.ok(far < 1e-3, `row ${i} is off by ${far}`);
  }
}
