/** The official client of OpenAI, as an agent uses it. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { until } from "../../../_support/clock.ts";
import { setup, whenAborted } from "../_support.ts";

Deno.test("openai: leaving a stream ends its generation, and what was sampled is a row", async () => {
  await using it = await setup();
  const session = it.gateway.open();
  const client = new OpenAI({ baseURL: session.baseUrl, apiKey: session.key, maxRetries: 0 });
  const stream = await client.chat.completions.create({
    model: "policy",
    messages: [{ role: "user", content: "Talk" }],
    max_completion_tokens: 1000,
    stream: true,
    ...{ ignore_eos: true },
  });
  let parts = 0;
  for await (const _ of stream) if (++parts === 5) break;
  const { rows } = await session.end();
  assert.equal(rows.length, 1);
  assert.equal(rows[0]!.finishReason.type, "abort");
  assert.ok(rows[0]!.responseIds.length >= 4 && rows[0]!.responseIds.length < 1000);
  assert.equal(rows[0]!.logProbs!.length, rows[0]!.responseIds.length);
  assert.equal(it.server.stats.running, 0);
});

Deno.test("openai: aborting a whole answer ends its generation, and what was sampled is a row", async () => {
  await using it = await setup({ server: { faults: { stallAfterTokens: 5 } } });
  const session = it.gateway.open();
  const client = new OpenAI({ baseURL: session.baseUrl, apiKey: session.key, maxRetries: 0 });
  const leaving = new AbortController();
  const asking = client.chat.completions.create({
    model: "policy",
    messages: [{ role: "user", content: "Talk" }],
    max_completion_tokens: 1500,
    ...{ ignore_eos: true },
  }, { signal: leaving.signal });
  await until(() => it.server.faults.stalled === true);
  const told = whenAborted(it.engine);
  leaving.abort();
  await assert.rejects(asking, OpenAI.APIUserAbortError);
  await told;
  it.server.setFaults({ stalled: false });
  await until(() => session.turns.length === 1);
  const { rows } = await session.end();
  assert.equal(rows[0]!.finishReason.type, "abort");
  assert.equal(rows[0]!.info.aborted, true);
  assert.ok(rows[0]!.responseIds.length >= 5 && rows[0]!.responseIds.length < 1500);
});

Deno.test("openai: refusals are its own errors, and a retry is a branch", async () => {
  await using it = await setup({ sessionLimits: { maxTurns: 2 } });
  const session = it.gateway.open();
  const messages = [{ role: "user" as const, content: "a" }];
  const make = (apiKey: string, more = {}) =>
    new OpenAI({ baseURL: session.baseUrl, apiKey, maxRetries: 0, ...more }).chat.completions;
  await assert.rejects(
    make("sk-wrong").create({ model: "m", messages }),
    OpenAI.AuthenticationError,
  );
  await assert.rejects(
    make(session.key).create({ model: "m", messages, max_tokens: 0 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "max_tokens",
  );
  it.server.setFaults({ unavailable: 100 });
  const { status } = await make(session.key).create({ model: "m", messages }).catch((e) => e);
  assert.equal(status, 503);
  it.server.setFaults({ unavailable: 0 });
  await make(session.key).create({ model: "m", messages });
  const headers = { "x-stainless-retry-count": "1" };
  await make(session.key, { defaultHeaders: headers }).create({ model: "m", messages });
  await assert.rejects(
    make(session.key).create({ model: "m", messages }),
    (error) => error instanceof OpenAI.PermissionDeniedError && error.code === "session_maxTurns",
  );
  const { rows } = await session.end();
  assert.deepEqual(rows.map(({ branch, info }) => [branch, info.retry]), [[0, undefined], [
    1,
    true,
  ]]);
  await assert.rejects(
    make(session.key).create({ model: "m", messages }),
    OpenAI.AuthenticationError,
  );
});

Deno.test("openai: asks in this process, without a connection, and aborts there", async () => {
  await using it = await setup({ server: { faults: { stallAfterTokens: 9 } } });
  const session = it.gateway.open();
  const client = new OpenAI({
    baseURL: "http://in-process/v1",
    apiKey: session.key,
    fetch: it.gateway.fetch,
    maxRetries: 0,
  });
  const request = { model: "policy", messages: [{ role: "user" as const, content: "Hi" }] };
  const answer = await client.chat.completions.create({ ...request, max_tokens: 4 });
  assert.equal(answer.choices[0]!.message.content, session.turns[0]!.shown.content);
  const leaving = new AbortController();
  const asking = client.chat.completions.create(request, { signal: leaving.signal });
  await until(() => it.server.faults.stalled === true);
  leaving.abort();
  await assert.rejects(asking);
  await until(() => session.turns.length === 2);
  it.server.setFaults({ stalled: false });
  const { rows } = await session.end();
  assert.equal(rows[1]!.finishReason.type, "abort");
});
