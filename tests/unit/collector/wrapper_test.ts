import assert from "node:assert/strict";
import { ValidationError } from "../../../src/errors.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import type { LLMWrapperOptions } from "../../../src/policy/wrapper/options.ts";
import { SGLangWrapper } from "../../../src/policy/wrapper/sglang_wrapper.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import {
  type Environment,
  EnvironmentPool,
  promptEnvironment,
} from "../../../src/collector/environments/mod.ts";
import { LLMCollector, type RolloutRow } from "../../../src/collector/mod.ts";
import { tinyFolder } from "./_servers.ts";
import { weightsThatSay } from "./_weights_that_say.ts";
import { until } from "../../_support/clock.ts";

/** Weights of sync `n` say this token. */
const firstToken = 100;

for (
  const { version, pauseMode } of [
    { version: "0.5.16", pauseMode: "abort" },
    { version: "0.5.23", pauseMode: "retract" },
    // It neither aborts nor tells spans: what a sync cut is dated to its oldest version.
    { version: "0.5.16", pauseMode: "retract" },
  ] as const
) {
  const title = `as ${version}, pause ${pauseMode}`;
  // case 108
  Deno.test(`every token has the version of the sync that made it (${title})`, async () => {
    await using server = await EmbeddedServer.start({ model: await tinyFolder(), version });
    await using engine = await AsyncSGLang.connect(server.url);
    const policy = new SGLangWrapper(engine, {
      generateKwargs: { maxNewTokens: 24, ignoreEos: true },
    });
    const environment = (): Environment => ({
      reset: () => ({ messages: [{ role: "user", content: "Say it" }] }),
      step: ({ turn, ids }) => ({
        messages: [{ role: "user", content: "Again" }],
        reward: ids.length,
        done: turn === 1,
      }),
    });
    await using collector = new LLMCollector(new EnvironmentPool(environment, { size: 8 }), {
      policy,
      dialogTurnsPerBatch: 16,
      yieldCompletedTrajectories: true,
      trackPolicyVersion: true,
    });
    const scheme = new SGLangWeightSyncScheme({ serverUrl: server.url, pauseMode });
    await using sender = scheme.createSender();
    sender.registerCollector(collector);
    await sender.initAllWorkersGroup();
    await sender.updateWeights(await weightsThatSay(firstToken + 1, await tinyFolder()), {
      version: "sync-1",
    });

    const rows: RolloutRow[] = [];
    const reading = (async () => {
      while (rows.length < 48) rows.push(...(await collector.rollout())!.rows);
    })();
    reading.catch(() => {});
    for (let sync = 2; sync <= 3; sync++) {
      // So that the sync comes while generations run: the server stands still in the middle of them.
      server.setFaults({ stallAfterTokens: 200 });
      await until(() => server.faults.stalled === true);
      await sender.updateWeights(await weightsThatSay(firstToken + sync, await tinyFolder()), {
        version: `sync-${sync}`,
      });
      server.setFaults({ stalled: false });
    }
    await reading;

    assert.equal(collector.policyVersion, 3);
    for (const row of rows) {
      assert.equal(row.responseIds.length, 24);
      // What was said is the sync log itself.
      const said = Array.from(row.responseIds, (id) => id - firstToken);
      const versions = [...row.tokenVersions!];
      if (row.versionsExact) assert.deepEqual(versions, said);
      else {
        // One version for all: that of the weights when it was asked for, never a newer one.
        assert.equal(new Set(versions).size, 1);
        assert.ok(versions[0]! <= Math.min(...said));
      }
      assert.ok(row.versionsExact || (version === "0.5.16" && pauseMode === "retract"));
      assert.notEqual(row.finishReason.type, "abort");
    }
    const cut = rows.filter((row) => new Set(row.responseIds).size > 1);
    assert.ok(cut.length > 0, "no generation was cut by a sync");
    // The next turn begins with the very ids of the turn before.
    const second = rows.filter((row) => row.turn === 1);
    for (const row of second) {
      const before = rows.find((other) => other.dialog === row.dialog && other.turn === 0)!;
      const sent = [...before.promptIds!, ...before.responseIds];
      assert.deepEqual([...row.promptIds!.subarray(0, sent.length)], sent);
    }
    assert.ok(second.length > 0);
  });
}

Deno.test("dialogs on a server that refuses and drops are all collected, each once", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyFolder(), seed: 1 });
  await using engine = await AsyncSGLang.connect(server.url);
  const policy = new SGLangWrapper(engine, { generateKwargs: { maxNewTokens: 3 } });
  const total = 100;
  let steps = 0;
  const pool = new EnvironmentPool(() => {
    const inner = promptEnvironment({ prompts: ["Hi", "Go"], reward: ({ ids }) => ids.length });
    return {
      reset: inner.reset,
      step: (action) => {
        if (++steps % 25 === 0) throw new Error("sandbox died");
        if (steps % 20 === 0) server.setFaults({ unavailable: 2, dropConnections: 2 });
        return inner.step(action);
      },
    };
  }, { size: 32 });
  await using collector = new LLMCollector(pool, {
    policy,
    dialogTurnsPerBatch: 25,
    totalDialogs: total,
    yieldCompletedTrajectories: true,
    dialogRetries: 20,
  });
  const dialogs: number[] = [];
  for await (const batch of collector) dialogs.push(...batch.rows.map((row) => row.dialog));
  assert.deepEqual(
    dialogs.toSorted((a, b) => a - b),
    Array.from({ length: total }, (_, dialog) => dialog),
  );
  assert.ok(collector.stats.retries >= 4);
});

Deno.test("a wrapper that does not answer conversations is refused", () => {
  const refused: LLMWrapperOptions[] = [
    { inputMode: "text" },
    { inputMode: "history", generate: false },
    { numSamples: 2, inplace: false },
  ];
  for (const options of refused) {
    assert.throws(
      () =>
        new LLMCollector(promptEnvironment({ prompts: ["Hi"], reward: () => 0 }), {
          policy: new SGLangWrapper("http://127.0.0.1:9", options),
          dialogTurnsPerBatch: 1,
        }),
      ValidationError,
    );
  }
});

// case 106

Deno.test("a wrapper knows its collector, which gives the wrapper's engine", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyFolder() });
  await using engine = await AsyncSGLang.connect(server.url);
  const policy = new SGLangWrapper(engine);
  const collector = new LLMCollector(promptEnvironment({ prompts: ["Hi"], reward: () => 0 }), {
    policy,
    dialogTurnsPerBatch: 1,
  });
  assert.equal(policy.collector, collector);
  assert.equal(collector.getPolicyModel(), engine);
});

Deno.test("members of a group differ on a deterministic server, and a rerun with the seed repeats them", async () => {
  await using server = await EmbeddedServer.start({
    model: await tinyFolder(),
    enableDeterministicInference: true,
  });
  await using engine = await AsyncSGLang.connect(server.url);
  const run = async (samplingSeed: number | undefined, partialRollouts: "resume" | "keep") => {
    const policy = new SGLangWrapper(engine, {
      generateKwargs: { maxNewTokens: 6, ignoreEos: true, samplingSeed },
    });
    const environment = (): Environment => ({
      reset: () => ({ messages: [{ role: "user", content: "Hi" }] }),
      step: ({ turn }) => ({
        messages: [{ role: "user", content: "Go" }],
        reward: 0,
        done: turn === 1,
      }),
    });
    await using collector = new LLMCollector(new EnvironmentPool(environment, { size: 3 }), {
      policy,
      partialRollouts,
      groupSize: 4,
      dialogTurnsPerBatch: 16,
      totalDialogs: 8,
      yieldCompletedTrajectories: true,
    });
    const rows: RolloutRow[] = [];
    for await (const batch of collector) rows.push(...batch.rows);
    const answers = rows.map(({ dialog, turn, responseIds }) =>
      `${dialog} ${turn}: ${responseIds}`
    );
    const first = rows.filter(({ turn }) => turn === 0).map(({ responseIds }) => `${responseIds}`);
    assert.deepEqual([answers.length, new Set(first).size], [16, 8]);
    return answers.sort();
  };
  const once = await run(7, "resume");
  assert.deepEqual(await run(7, "resume"), once);
  assert.deepEqual(await run(7, "keep"), once);
  assert.notDeepEqual(await run(8, "resume"), once);
  assert.notDeepEqual(await run(undefined, "resume"), await run(undefined, "resume"));
});

Deno.test("rows with one prompt differ in one call of a policy with a seed, and repeat in the next", async () => {
  await using server = await EmbeddedServer.start({
    model: await tinyFolder(),
    enableDeterministicInference: true,
  });
  await using engine = await AsyncSGLang.connect(server.url);
  const policy = new SGLangWrapper(engine, {
    inputMode: "text",
    numSamples: 2,
    generateKwargs: { maxNewTokens: 6, ignoreEos: true, seed: 7 },
  });
  const call = async () => (await policy.call({ text: { prompt: ["Hi", "Hi", "Go"] } })).text;
  const answers = async () => JSON.stringify([...(await call())!.get("response")!]);
  const once = await answers();
  assert.equal(await answers(), once);
  assert.equal(new Set((JSON.parse(once) as string[]).slice(0, 4)).size, 4);
});
