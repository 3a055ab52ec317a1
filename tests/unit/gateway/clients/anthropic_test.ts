/** The official client of Anthropic, as an agent uses it. */
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { until } from "../../../_support/clock.ts";
import { setup } from "../_support.ts";

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

Deno.test("anthropic: tokens of a prompt are counted as they are sent", async () => {
  await using it = await setup();
  const session = it.gateway.open();
  const client = new Anthropic({ baseURL: it.gateway.url, apiKey: session.key });
  const request = {
    model: "policy",
    system: [{ type: "text" as const, text: "Be short." }],
    messages: [{ role: "user" as const, content: "Talk" }],
  };
  const counted = await client.messages.countTokens(request);
  await client.messages.create({ ...request, max_tokens: 2 });
  const { rows } = await session.end();
  assert.equal(rows.length, 1);
  assert.equal(counted.input_tokens, rows[0]!.promptIds!.length);
});
