/** LangChain.js with its OpenAI chat model, as an agent uses it. */
import assert from "node:assert/strict";
import {
  type AIMessageChunk,
  type BaseMessage,
  HumanMessage,
  ToolMessage,
} from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { until } from "../../../_support/clock.ts";
import { setup } from "../_support.ts";
import { addParameters, checkLoop, scriptedSetup } from "./_agent.ts";

const tools = [{
  type: "function" as const,
  function: { name: "add", description: "Adds two numbers", parameters: addParameters },
}];

for (const isStream of [false, true]) {
  Deno.test(`langchain: a loop of parallel tools${isStream ? " over streams" : ""}`, async () => {
    await using it = await scriptedSetup();
    const session = it.gateway.open();
    const model = new ChatOpenAI({
      model: "policy",
      apiKey: session.key,
      configuration: { baseURL: session.baseUrl },
    }).bindTools(tools);
    const messages: BaseMessage[] = [new HumanMessage("Add 1 to 4")];
    let called = 0;
    for (;;) {
      const answer = isStream ? await collected(await model.stream(messages)) : await model.invoke(
        messages,
      );
      messages.push(answer);
      const calls = answer.tool_calls ?? [];
      if (calls.length === 0) break;
      for (const { id, args } of calls) {
        called++;
        messages.push(new ToolMessage({ tool_call_id: id!, content: String(args.a + args.b) }));
      }
    }
    assert.equal(called, 3);
    checkLoop(await session.end());
  });
}

async function collected(stream: AsyncIterable<AIMessageChunk>): Promise<AIMessageChunk> {
  let whole: AIMessageChunk | undefined;
  for await (const chunk of stream) whole = whole === undefined ? chunk : whole.concat(chunk);
  return whole!;
}

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
