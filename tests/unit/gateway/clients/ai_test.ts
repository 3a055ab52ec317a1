/** The Vercel AI SDK with its OpenAI provider, as an agent uses it: chat and responses. */
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateText, isStepCount, jsonSchema, streamText, tool } from "ai";
import { until } from "../../../_support/clock.ts";
import { setup } from "../_support.ts";
import { addParameters, checkLoop, scriptedSetup } from "./_agent.ts";

for (const api of ["chat", "responses"] as const) {
  for (const isStream of [false, true]) {
    Deno.test(`ai: a loop of parallel tools by ${api}${isStream ? " over streams" : ""}`, async () => {
      await using it = await scriptedSetup();
      const session = it.gateway.open();
      const openai = createOpenAI({ baseURL: session.baseUrl, apiKey: session.key });
      const model = api === "chat" ? openai.chat("policy") : openai.responses("policy");
      let called = 0;
      const add = tool({
        description: "Adds two numbers",
        inputSchema: jsonSchema<{ a: number; b: number }>(addParameters),
        execute: ({ a, b }) => {
          called++;
          return String(a + b);
        },
      });
      const request = { model, prompt: "Add 1 to 4", tools: { add }, stopWhen: isStepCount(8) };
      if (isStream) {
        const { textStream, steps } = streamText(request);
        for await (const _ of textStream);
        assert.equal((await steps).length, 3);
      } else {
        assert.equal((await generateText(request)).steps.length, 3);
      }
      assert.equal(called, 3);
      checkLoop(await session.end());
    });
  }
}

Deno.test("ai: an abort ends the generation; refusals are its own errors", async () => {
  await using it = await setup({ server: { faults: { stallAfterTokens: 5 } } });
  const session = it.gateway.open();
  const model = (apiKey: string) =>
    createOpenAI({ baseURL: session.baseUrl, apiKey }).chat("policy");
  const leaving = new AbortController();
  const { textStream } = streamText({
    model: model(session.key),
    prompt: "Talk",
    maxOutputTokens: 1500,
    abortSignal: leaving.signal,
    onError: () => {},
  });
  try {
    for await (const _ of textStream) leaving.abort();
  } catch {
    // Leaving a stream may end it with an error or without.
  }
  it.server.setFaults({ stalled: false });
  await until(() => session.turns.length === 1);
  assert.equal(session.turns[0]!.isAborted, true);
  await assert.rejects(
    generateText({ model: model("wrong"), prompt: "a", maxRetries: 0 }),
    (error) => APICallError.isInstance(error) && error.statusCode === 401,
  );
});
