// deno-lint-ignore-file no-explicit-any
import assert from "node:assert/strict";
import { plainSampling, scriptedReader } from "../../_support/gateway_agents.ts";
import { idsOf, setup } from "./_support.ts";

type Body = Record<string, unknown>;

async function post(
  url: string,
  body: unknown,
  key: string | null,
): Promise<{ status: number; headers: Headers; body: any }> {
  const response = await fetch(url, {
    method: "POST",
    headers: key === null ? {} : { authorization: `Bearer ${key}` },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json");
  return {
    status: response.status,
    headers: response.headers,
    body: isJson ? JSON.parse(text) : text,
  };
}

const user = (content: string): Body => ({ role: "user", content });

Deno.test("a conversation that goes on extends the ids that it had", async () => {
  await using it = await setup();
  const session = it.gateway.open();
  const url = `${session.baseUrl}/chat/completions`;
  const messages: Body[] = [user("Hello")];
  for (let turn = 0; turn < 3; turn++) {
    const { status, body } = await post(url, { model: "any", messages }, session.key);
    assert.equal(status, 200, JSON.stringify(body));
    assert.equal(body.object, "chat.completion");
    assert.equal(body.model, "any");
    messages.push({ role: "assistant", content: body.choices[0].message.content }, user("More"));
  }
  session.reward(2);
  const { rows, reward, end } = await session.end();
  assert.equal(end, "ended");
  assert.equal(reward, 2);
  assert.deepEqual(rows.map(({ turn, parent, branch }) => [turn, parent, branch]), [
    [0, null, 0],
    [1, 0, 0],
    [2, 1, 0],
  ]);
  for (const [index, row] of rows.entries()) {
    assert.equal(row.logProbs!.length, row.responseIds.length);
    if (index === 0) continue;
    const before = idsOf(rows[index - 1]!);
    assert.deepEqual(idsOf(row).slice(0, before.length), before);
  }
  assert.deepEqual(rows.map(({ reward, done }) => [reward, done]), [[0, false], [0, false], [
    2,
    true,
  ]]);
});

Deno.test("an edit, a second asking and a compaction are branches", async () => {
  await using it = await setup();
  const session = it.gateway.open();
  const url = `${session.baseUrl}/chat/completions`;
  const ask = async (...messages: Body[]) =>
    (await post(url, { model: "any", messages }, session.key)).body.choices[0].message.content;
  const first = await ask(user("a"));
  const said = { role: "assistant", content: first };
  await ask(user("a"), said, user("b"));
  await ask(user("a"), said, user("B"));
  await ask(user("a"), { role: "assistant", content: `${first}!` }, user("b"));
  await ask(user("a"), said, user("b"));
  await ask(user("all that was said, in short"));
  const { rows } = await session.end();
  assert.deepEqual(rows.map(({ parent, branch }) => [parent, branch]), [
    [null, 0],
    [0, 0],
    [0, 1],
    [null, 2],
    [0, 3],
    [null, 4],
  ]);
});

Deno.test("a stream says what the whole answer says, and is recorded alike", async () => {
  await using it = await setup();
  const session = it.gateway.open();
  const { body } = await post(`${session.baseUrl}/chat/completions`, {
    model: "any",
    messages: [user("Tell me")],
    stream: true,
    stream_options: { include_usage: true },
    logprobs: true,
    n: 2,
  }, session.key);
  const events = String(body).split("\n\n").filter(Boolean).map((line) => line.slice(6));
  assert.equal(events.pop(), "[DONE]");
  const chunks = events.map((event) => JSON.parse(event));
  const { usage, choices } = chunks.pop();
  assert.deepEqual(choices, []);
  const { rows } = await session.end();
  assert.equal(rows.length, 2);
  assert.equal(usage.completion_tokens, rows[0]!.responseIds.length + rows[1]!.responseIds.length);
  for (const index of [0, 1]) {
    const own = chunks.flatMap(({ choices }) => choices).filter((one) => one.index === index);
    const text = own.map(({ delta }) => delta.content ?? "").join("");
    const logProbs = own.flatMap(({ logprobs }) => logprobs?.content ?? []).map((one) =>
      Math.fround(one.logprob)
    );
    assert.ok(own.length > 3, "it did not come in parts");
    const row = rows.find(({ response }) => response.content === text)!;
    assert.deepEqual(logProbs, [...row.logProbs!]);
    assert.equal(own.at(-1).finish_reason, row.finishReason.type);
  }
});

Deno.test("a loop of tools goes on from its ids, and calls run side by side", async () => {
  await using it = await setup({
    policy: { generateKwargs: plainSampling, readAnswer: scriptedReader() },
  });
  const session = it.gateway.open();
  const messages: Body[] = [user("Add them")];
  const tools = [{
    type: "function",
    function: { name: "add", parameters: { type: "object", properties: {} } },
  }];
  for (;;) {
    const { body } = await post(
      `${session.baseUrl}/chat/completions`,
      { model: "any", messages, tools, parallel_tool_calls: true },
      session.key,
    );
    const { message, finish_reason } = body.choices[0];
    messages.push(message);
    if (message.tool_calls === undefined) break;
    assert.equal(finish_reason, "tool_calls");
    assert.equal(message.content, null);
    for (const { id, function: called } of message.tool_calls) {
      const { a, b } = JSON.parse(called.arguments);
      messages.push({ role: "tool", tool_call_id: id, content: String(a + b) });
    }
  }
  const { rows } = await session.end();
  assert.deepEqual(rows.map(({ branch }) => branch), [0, 0, 0]);
});

Deno.test("what cannot be honoured is refused in OpenAI's shape, what has no effect is told", async () => {
  await using it = await setup();
  const session = it.gateway.open();
  const url = `${session.baseUrl}/chat/completions`;
  const messages = [user("a")];
  const told = await post(url, { model: "any", messages, user: "me", seed: 3 }, session.key);
  assert.equal(told.status, 200);
  assert.equal(told.headers.get("x-sglang-rl-ignored"), "user, seed");
  const wrong: [Body | string, RegExp][] = [
    [{ model: "any", messages, temprature: 1 }, /temperature/],
    [{ model: "any", messages, functions: [] }, /tools/],
    [{ model: "any", messages: [] }, /messages/],
    [{ model: "any", messages: [{ role: "user", content: [{ type: "image_url" }] }] }, /text part/],
    [{ model: "any", messages, temperature: -1 }, /non-negative/],
    [{ model: "any", messages, n: 1000 }, /At most 64/],
    [{ model: "any", messages, tool_choice: "required" }, /tools/],
    [{ messages }, /model/],
    ["{", /JSON/],
    ["[1]", /object/],
  ];
  for (const [body, pattern] of wrong) {
    const answer = await post(url, body, session.key);
    assert.equal(answer.status, 400, JSON.stringify(answer.body));
    assert.match(answer.body.error.message, pattern);
    assert.equal(answer.body.error.type, "invalid_request_error");
  }
  for (const key of [null, "sk-session-none", it.gateway.open().key]) {
    const { status, body } = await post(url, { model: "any", messages }, key);
    assert.equal(status, key?.length === session.key.length ? 200 : 401, JSON.stringify(body));
  }
  assert.equal(session.turns.length, 1);
});

Deno.test("sessions are opened, rewarded and ended over HTTP, by their key or the admin's", async () => {
  await using it = await setup({ adminKey: "admin-key-1" });
  const { url } = it.gateway;
  assert.equal((await post(`${url}/sessions`, {}, null)).status, 401);
  const { body: session } = await post(`${url}/sessions`, { info: { task: 7 } }, "admin-key-1");
  const { body: other } = await post(`${url}/sessions`, {}, "admin-key-1");
  const { body: answer } = await post(
    `${session.path_url}/chat/completions`,
    { model: "any", messages: [user("a")] },
    null,
  );
  const at = `${url}/sessions/${session.id}`;
  assert.equal((await post(`${at}/reward`, { reward: 1 }, other.key)).status, 401);
  assert.equal((await post(`${at}/end`, {}, other.key)).status, 401);
  assert.equal(
    (await post(`${at}/reward`, { reward: 1, answer: answer.id }, session.key)).status,
    200,
  );
  assert.equal((await post(`${at}/reward`, { reward: 0.5 }, "admin-key-1")).status, 200);
  const { rows } = await (await fetch(`${at}/rows`, {
    headers: { authorization: `Bearer ${session.key}` },
  })).json();
  const { body: ended } = await post(`${at}/end`, {}, session.key);
  assert.equal(ended.reward, 1.5);
  assert.deepEqual(rows, ended.rows);
  assert.equal(ended.rows.length, 1);
  assert.equal(ended.rows[0].schema, "sglang-rl.rollout/2");
  assert.deepEqual(ended.rows[0].info.task, 7);
  const after = await post(`${session.base_url}/chat/completions`, {}, session.key);
  assert.equal(after.status, 401);
});
