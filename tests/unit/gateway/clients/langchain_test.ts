/** LangChain.js with its OpenAI chat model, as an agent uses it. */
import assert from "node:assert/strict";
import { ChatOpenAI } from "@langchain/openai";
import { until } from "../../../_support/clock.ts";
import { setup } from "../_support.ts";

Deno.test("langchain: an abort ends the generation; refusals are errors", async () => {
  await using it = await setup({ server: { faults: { stallAfterTokens: 5 } } });
  const session = it.gateway.open();
  const make = (apiKey: string) =>
    new ChatOpenAI({
      model: "policy",
      apiKey,
      maxRetries: 0,
      maxTokens: 1500,
      configuration: { baseURL: session.baseUrl },
    });
  const leaving = new AbortController();
  await assert.rejects(async () => {
    for await (const _ of await make(session.key).stream("Talk", { signal: leaving.signal })) {
      leaving.abort();
    }
  });
  it.server.setFaults({ stalled: false });
  await until(() => session.turns.length === 1);
  assert.equal(session.turns[0]!.isAborted, true);
  await assert.rejects(
    make("wrong").invoke("a"),
    (error) => (error as { status?: number }).status === 401,
  );
});
