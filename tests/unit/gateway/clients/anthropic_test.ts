/** The official client of Anthropic, as an agent uses it. */
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { until } from "../../../_support/clock.ts";
import { setup } from "../_support.ts";
import { addParameters, checkLoop, scriptedSetup } from "./_agent.ts";

const tools: Anthropic.Tool[] = [{
  name: "add",
  description: "Adds two numbers",
  input_schema: addParameters,
}];

for (const isStream of [false, true]) {
  Deno.test(`anthropic: a loop of parallel tools${isStream ? " over streams" : ""}`, async () => {
    await using it = await scriptedSetup();
    const session = it.gateway.open();
    const client = new Anthropic({ baseURL: it.gateway.url, apiKey: session.key });
    const messages: Anthropic.MessageParam[] = [{ role: "user", content: "Add 1 to 4" }];
    let called = 0;
    for (;;) {
      const request = { model: "policy", max_tokens: 8, system: "You add.", messages, tools };
      const answer = isStream
        ? await client.messages.stream(request).finalMessage()
        : await client.messages.create(request);
      messages.push({ role: "assistant", content: answer.content });
      if (answer.stop_reason !== "tool_use") break;
      const results = answer.content.flatMap((block): Anthropic.ToolResultBlockParam[] => {
        if (block.type !== "tool_use") return [];
        const { a, b } = block.input as { a: number; b: number };
        called++;
        return [{ type: "tool_result", tool_use_id: block.id, content: String(a + b) }];
      });
      messages.push({ role: "user", content: results });
    }
    assert.equal(called, 3);
    const counted = await client.messages.countTokens({
      model: "policy",
      system: "You add.",
      messages: messages.slice(0, 1),
      tools,
    });
    const ended = await session.end();
    assert.equal(counted.input_tokens, ended.rows[0]!.promptIds!.length);
    checkLoop(ended);
  });
}

Deno.test("anthropic: leaving a stream ends its generation; refusals are its own errors", async () => {
  await using it = await setup({ server: { faults: { stallAfterTokens: 5 } } });
  const session = it.gateway.open();
  const make = (apiKey: string) =>
    new Anthropic({ baseURL: it.gateway.url, apiKey, maxRetries: 0 }).messages;
  const messages = [{ role: "user" as const, content: "Talk" }];
  const stream = make(session.key).stream({ model: "policy", max_tokens: 1500, messages });
  stream.on("text", () => stream.abort());
  await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
  it.server.setFaults({ stalled: false });
  await until(() => session.turns.length === 1);
  await assert.rejects(
    make("wrong").create({ model: "policy", max_tokens: 1, messages }),
    Anthropic.AuthenticationError,
  );
  await assert.rejects(
    make(session.key).create({ model: "policy", max_tokens: 0, messages }),
    (error) => error instanceof Anthropic.BadRequestError && /max_tokens/.test(error.message),
  );
  const image = { type: "image" as const, source: { type: "url" as const, url: "http://a/b.png" } };
  await assert.rejects(
    make(session.key).create({
      model: "policy",
      max_tokens: 1,
      messages: [{ role: "user", content: [image] }],
    }),
    /not supported/,
  );
  const { rows } = await session.end();
  assert.equal(rows[0]!.finishReason.type, "abort");
});
