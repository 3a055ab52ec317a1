import assert from "node:assert/strict";
import { ContextOverflowError } from "../../../src/errors.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { SGLangWrapper } from "../../../src/policy/wrapper/sglang_wrapper.ts";
import { type Environment, promptEnvironment } from "../../../src/collector/environments/mod.ts";
import { LLMCollector, type PolicyRequest, type RolloutRow } from "../../../src/collector/mod.ts";
import { sampleOf } from "./_fakes.ts";
import { tinyFolder } from "./_servers.ts";

/** Every turn adds some 600 tokens; the tiny model holds 2048. */
const talkative = (): Environment => ({
  reset: () => ({ messages: [{ role: "user", content: "go" }] }),
  step: () => ({
    reward: 1,
    done: false,
    messages: [{ role: "user", content: "word ".repeat(120) }],
  }),
});

Deno.test("a dialog that outgrows the context ends truncated, with all its turns", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyFolder() });
  await using engine = await AsyncSGLang.connect(server.url);
  const policy = new SGLangWrapper(engine, {
    generateKwargs: { maxNewTokens: 256, ignoreEos: true },
  });
  await using collector = new LLMCollector(talkative(), {
    policy,
    dialogTurnsPerBatch: 1,
    totalDialogs: 2,
    yieldCompletedTrajectories: true,
    maxTurns: 50,
  });
  const dialogs: (readonly RolloutRow[])[] = [];
  for await (const batch of collector) {
    dialogs.push(...batch.trajectories().map(({ rows }) => rows));
  }
  assert.equal(dialogs.length, 2);
  assert.deepEqual([collector.stats.dialogsFailed, collector.stats.retries], [0, 0]);
  for (const rows of dialogs) {
    const last = rows.at(-1)!;
    assert.ok(rows.length > 1);
    assert.deepEqual([last.done, last.truncated], [true, true]);
    assert.ok(rows.every((row) => row.responseIds.length > 0));
    assert.ok(last.promptIds!.length + last.responseIds.length <= 2048);
  }
});

Deno.test("an answer is cut to what the context has left, and says so", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyFolder() });
  await using engine = await AsyncSGLang.connect(server.url);
  const policy = new SGLangWrapper(engine, {
    inputMode: "tokens",
    generateKwargs: { maxNewTokens: 256, ignoreEos: true },
  });
  const output = await policy.call({ tokens: [Array(1900).fill(5)] });
  assert.equal(output.samples[0]!.isTruncated, true);
  const { length } = output.tokens.get("response")[0]!;
  assert.ok(length > 100 && length <= 148, `${length} tokens`);
});

Deno.test("a policy that learns of the limit by a refusal keeps the turns before it", async () => {
  await using collector = new LLMCollector(talkative(), {
    policy: {
      call({ turn }: PolicyRequest) {
        if (turn < 2) return Promise.resolve(sampleOf([turn]));
        throw new ContextOverflowError({ promptTokens: 99, limit: 50 });
      },
    },
    dialogTurnsPerBatch: 1,
    totalDialogs: 1,
    yieldCompletedTrajectories: true,
  });
  const { rows } = (await collector.rollout())!;
  assert.deepEqual(rows.map(({ responseIds }) => [...responseIds]), [[0], [1], []]);
  assert.deepEqual(rows.map(({ truncated }) => truncated), [false, false, true]);
});

Deno.test("a first prompt that is too long fails by name", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyFolder() });
  await using engine = await AsyncSGLang.connect(server.url);
  const prompts = ["word ".repeat(4000)];
  await using collector = new LLMCollector(promptEnvironment({ prompts, reward: () => 0 }), {
    policy: new SGLangWrapper(engine),
    dialogTurnsPerBatch: 1,
  });
  await assert.rejects(collector.rollout(), ContextOverflowError);
});

Deno.test("an error in preparing the next turn does not cost the turn before it", async () => {
  await using collector = new LLMCollector(talkative(), {
    policy: {
      call: ({ turn }: PolicyRequest) => Promise.resolve(sampleOf([turn])),
      prepare: () => Promise.reject(new Error("The template refuses this")),
    },
    dialogTurnsPerBatch: 1,
  });
  const { rows } = (await collector.rollout())!;
  assert.deepEqual(rows.map(({ responseIds }) => [...responseIds]), [[0]]);
  await assert.rejects(collector.rollout(), /The template refuses this/);
});
