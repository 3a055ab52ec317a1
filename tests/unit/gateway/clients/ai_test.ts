/** The Vercel AI SDK with its OpenAI provider, as an agent uses it: chat and responses. */
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateText, streamText } from "ai";
import { until } from "../../../_support/clock.ts";
import { setup } from "../_support.ts";

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
