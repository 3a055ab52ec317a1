/** The adapters for frameworks in this process, as agents use them. */
import assert from "node:assert/strict";
import type { AIMessageChunk } from "@langchain/core/messages";
import { APICallError, generateText, streamText } from "ai";
import { languageModel } from "../../../../src/ai/mod.ts";
import { GatewayRefusal, type RecordedTurn } from "../../../../src/gateway/mod.ts";
import { RecordedChatModel } from "../../../../src/langchain/mod.ts";
import { until } from "../../../_support/clock.ts";
import {
  agentsInProcess,
  checkLoop,
  plainSampling,
  scriptedReader,
} from "../../../_support/gateway_agents.ts";
import { setup } from "../_support.ts";

for (const [name, agent] of Object.entries(agentsInProcess)) {
  for (const isStream of [false, true]) {
    const title = `${name}, in process: a loop of parallel tools${isStream ? " in streams" : ""}`;
    Deno.test(title, async () => {
      await using it = await setup({
        policy: { generateKwargs: plainSampling, readAnswer: scriptedReader() },
      });
      const session = it.gateway.open();
      assert.equal(await agent(it.gateway)(session, isStream), 3);
      checkLoop(await session.end());
    });
  }
}

/** What an adapter tells is what was recorded, bit for bit. */
function checkTold(told: Readonly<Record<string, unknown>>, { id, turn }: RecordedTurn): void {
  const { ids, logProbs } = turn.sample;
  assert.equal(told.answer, id);
  assert.deepEqual(told.promptIds, [...turn.prompt.ids]);
  assert.deepEqual(told.responseIds, [...ids]);
  assert.deepEqual(told.logProbs, [...logProbs!]);
  assert.equal(told.weightVersion, turn.sample.weightVersion);
}

Deno.test("ai, in process: metadata is what was recorded, whole and streamed", async () => {
  await using it = await setup();
  const { gateway } = it;
  await using session = gateway.open();
  const model = languageModel({ gateway, session });
  const whole = await generateText({ model, prompt: "Talk", system: "Be brief", seed: 3 });
  assert.equal(whole.text, session.turns[0]!.shown.content);
  assert.equal(whole.usage.outputTokens, session.turns[0]!.turn.sample.ids.length);
  checkTold(whole.providerMetadata!["sglang-rl"]!, session.turns[0]!);
  // No server here is deterministic.
  assert.deepEqual(whole.warnings?.map((warning) => "feature" in warning && warning.feature), [
    "seed",
  ]);
  const streamed = streamText({ model, prompt: "Talk", topK: 4 });
  assert.equal(await streamed.text, session.turns[1]!.shown.content);
  checkTold((await streamed.providerMetadata)!["sglang-rl"]!, session.turns[1]!);
  assert.equal(await streamed.finishReason, "length");
});

Deno.test("langchain, in process: metadata is what was recorded, whole and streamed", async () => {
  await using it = await setup();
  const { gateway } = it;
  await using session = gateway.open();
  const model = new RecordedChatModel({ gateway, session, fields: { temperature: 0.5 } });
  const whole = await model.invoke([["system", "Be brief"], ["user", "Talk"]]);
  assert.equal(whole.text, session.turns[0]!.shown.content);
  const { usage_metadata: usage } = whole as unknown as {
    usage_metadata: { output_tokens: number };
  };
  assert.equal(usage.output_tokens, session.turns[0]!.turn.sample.ids.length);
  checkTold(whole.response_metadata, session.turns[0]!);
  let streamed: AIMessageChunk | undefined;
  for await (const chunk of await model.stream("Talk")) streamed = streamed?.concat(chunk) ?? chunk;
  assert.equal(streamed!.text, session.turns[1]!.shown.content);
  checkTold(streamed!.response_metadata, session.turns[1]!);
});

Deno.test("in process: an abort ends the generation, and what was sampled is a row", async () => {
  for (const kind of ["ai", "langchain"] as const) {
    await using it = await setup({
      policy: { generateKwargs: { ignoreEos: true, maxNewTokens: 1500 } },
      server: { faults: { stallAfterTokens: 5 } },
    });
    const { gateway } = it;
    await using session = gateway.open();
    const leaving = new AbortController();
    const { signal } = leaving;
    const asking = kind === "ai"
      ? generateText({
        model: languageModel({ gateway, session }),
        prompt: "Talk",
        abortSignal: signal,
      })
      : new RecordedChatModel({ gateway, session }).invoke("Talk", { signal });
    const refused = assert.rejects(asking);
    await until(() => it.server.faults.stalled === true);
    leaving.abort();
    await refused;
    it.server.setFaults({ stalled: false });
    await until(() => session.turns.length === 1);
    assert.equal(session.turns[0]!.isAborted, true);
  }
});

Deno.test("in process: refusals are errors of the framework, or the gateway's own", async () => {
  await using it = await setup();
  const { gateway } = it;
  await using open = gateway.open({ limits: { maxTurns: 1 } });
  const session = { baseUrl: open.baseUrl, key: "wrong" };
  const ai = generateText({
    model: languageModel({ gateway, session }),
    prompt: "a",
    maxRetries: 0,
  });
  await assert.rejects(
    ai,
    (error) => APICallError.isInstance(error) && error.statusCode === 401 && !error.isRetryable,
  );
  await assert.rejects(
    new RecordedChatModel({ gateway, session }).invoke("a"),
    (error) => error instanceof GatewayRefusal && error.status === 401,
  );
  await assert.rejects(
    new RecordedChatModel({ gateway, session: open, fields: { temprature: 1 } }).invoke("a"),
    /did you mean "temperature"/,
  );
});
