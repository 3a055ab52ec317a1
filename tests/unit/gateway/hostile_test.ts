/** Agents that mean no good: they get a clear error, and harm no other session. */
import assert from "node:assert/strict";
import { FakeClock, until } from "../../_support/clock.ts";
import { ValidationError } from "../../../src/errors.ts";
import { EventStream } from "../../../src/gateway/event_stream.ts";
import { checkGatewayOptions } from "../../../src/gateway/options.ts";
import { setup } from "./_support.ts";

const ask = { model: "m", messages: [{ role: "user", content: "a" }] };

async function post(url: string, body: BodyInit, key = ""): Promise<Response> {
  const headers = { authorization: `Bearer ${key}` };
  // Node asks for `duplex` where the body is a stream.
  return await fetch(url, { method: "POST", headers, body, duplex: "half" } as RequestInit);
}

async function errorOf(response: Response): Promise<{ status: number; code: string }> {
  const { error } = await response.json();
  return { status: response.status, code: error.code };
}

Deno.test("bodies that are too long, too deep or no JSON are refused, and another session goes on", async () => {
  await using it = await setup({ limits: { maxBodyBytes: 10_000 } });
  const bad = it.gateway.open();
  const good = it.gateway.open();
  const url = `${bad.baseUrl}/chat/completions`;
  const cases: [BodyInit, number][] = [
    ["x".repeat(20_000), 413],
    [new Blob(["x".repeat(20_000)]).stream(), 413],
    ["[".repeat(5000), 400],
    ['{"model":', 400],
    [new Uint8Array([0xff, 0xfe, 0]), 400],
    ["null", 400],
  ];
  for (const [body, status] of cases) {
    const answer = await errorOf(await post(url, body, bad.key));
    assert.equal(answer.status, status);
    const other = await post(url, JSON.stringify(ask), good.key);
    assert.equal(other.status, 200);
    await other.body?.cancel();
  }
  assert.equal(bad.turns.length, 0);
  assert.equal((await good.end()).rows.length, cases.length);
});

Deno.test("an admin key that nobody could send is refused before anybody asks", () => {
  for (const adminKey of ["ключ-для-сеансов", "a key with spaces", "admin-key-1\n"]) {
    assert.throws(() => checkGatewayOptions({ adminKey }), ValidationError);
  }
});

Deno.test("neither a wrong key, nor another's session, nor a trick with the path gets anywhere", async () => {
  await using it = await setup({ adminKey: "admin-key-1" });
  const [mine, theirs] = [it.gateway.open(), it.gateway.open()];
  const at = it.gateway.url;
  const tries: [string, string, string][] = [
    ["POST", `/sessions/${theirs.id}/reward`, mine.key],
    ["POST", `/sessions/${theirs.id}/end`, mine.key],
    ["GET", `/sessions/${theirs.id}/rows`, mine.key],
    ["GET", `/sessions/${theirs.id}`, "admin-key-2"],
    ["POST", `/sessions`, mine.key],
    ["POST", `/s/${mine.key}/../${theirs.key}/v1/models`, ""],
    ["GET", `/s/${theirs.id}/v1/models`, ""],
    ["GET", `/s/%2e%2e/v1/models`, ""],
    ["GET", `/s//v1/models`, mine.key],
    ["GET", `/v1/models`, "__proto__"],
    ["POST", `/constructor`, mine.key],
    ["DELETE", `/sessions/${theirs.id}/end`, "admin-key-1"],
    ["PUT", `/v1/chat/completions`, mine.key],
  ];
  for (const [method, path, key] of tries) {
    const response = await fetch(at + path, {
      method,
      headers: { authorization: `Bearer ${key}` },
      ...(method === "GET" ? {} : { body: JSON.stringify({ reward: 5 }) }),
    });
    const { error } = await response.json();
    assert.ok(response.status >= 400 && response.status < 500, `${path}: ${response.status}`);
    assert.equal(typeof error?.message, "string");
  }
  const { reward, end } = await theirs.end();
  assert.deepEqual([reward, end], [0, "ended"]);
});

Deno.test("on loopback too a session is its own key's: another's ends and rewards nothing", async () => {
  await using it = await setup();
  const [mine, theirs] = [it.gateway.open(), it.gateway.open()];
  for (const key of [mine.key, ""]) {
    for (const action of ["reward", "end", "abort", "rows", ""]) {
      const response = await fetch(`${it.gateway.url}/sessions/${theirs.id}/${action}`, {
        method: action === "rows" || action === "" ? "GET" : "POST",
        headers: { authorization: `Bearer ${key}` },
        ...(action === "rows" || action === "" ? {} : { body: JSON.stringify({ reward: 1 }) }),
      });
      await response.body?.cancel();
      assert.ok([401, 404].includes(response.status), `${action}: ${response.status}`);
    }
  }
  const { reward, end } = await theirs.end();
  assert.deepEqual([reward, end], [0, "ended"]);
});

Deno.test("a page of a browser opens no session", async () => {
  await using it = await setup();
  const response = await fetch(`${it.gateway.url}/sessions`, {
    method: "POST",
    headers: { origin: "http://evil.example" },
  });
  assert.equal((await errorOf(response)).status, 403);
});

Deno.test("limits of a session and of the gateway, each with its own error", async () => {
  let waitS: number | null = null;
  await using it = await setup({
    limits: { maxSessions: 3 },
    sessionLimits: { maxTurns: 2 },
    holdBack: () => waitS,
  });
  const used = it.gateway.open();
  const url = `${used.baseUrl}/chat/completions`;
  const send = (key: string) => post(url, JSON.stringify(ask), key);
  for (let turn = 0; turn < 2; turn++) await (await send(used.key)).body?.cancel();
  assert.deepEqual(await errorOf(await send(used.key)), { status: 403, code: "session_maxTurns" });
  const small = it.gateway.open({ limits: { maxTokens: 1 } });
  await (await send(small.key)).body?.cancel();
  assert.deepEqual(await errorOf(await send(small.key)), {
    status: 403,
    code: "session_maxTokens",
  });
  it.gateway.open();
  const full = await post(`${it.gateway.url}/sessions`, "{}");
  assert.equal(full.headers.get("retry-after"), "5");
  assert.deepEqual(await errorOf(full), { status: 429, code: "too_many_sessions" });
  waitS = 7;
  const held = await send(used.key);
  assert.equal(held.headers.get("retry-after"), "7");
  assert.deepEqual(await errorOf(held), { status: 429, code: "held_back" });
});

Deno.test("a session of which nothing is heard ends, and one that lives too long", async () => {
  const clock = new FakeClock();
  const ended: string[] = [];
  await using it = await setup({
    clock,
    sessionLimits: { idleMs: 1000, maxMs: 4500 },
    onSession: ({ end }) => ended.push(end),
  });
  const [idle, busy] = [it.gateway.open(), it.gateway.open()];
  for (let second = 0; second < 5; second++) {
    const response = await post(`${busy.baseUrl}/chat/completions`, JSON.stringify(ask), busy.key);
    assert.equal(response.status, 200);
    await response.body?.cancel();
    await clock.advance(999);
  }
  assert.equal(idle.isOver, true);
  await busy.ended;
  assert.deepEqual(ended, ["idle", "time"]);
});

Deno.test("who reads nothing of a stream is left; who reads slowly is not", async () => {
  const clock = new FakeClock();
  const left: string[] = [];
  const stream = new EventStream({
    slowReadMs: 1000,
    clock,
    onLeave: (reason) => left.push(reason),
  });
  const reader = stream.body.getReader();
  for (let event = 0; event < 4; event++) {
    stream.write({ event });
    stream.write({ event });
    await clock.advance(600);
    const { value } = await reader.read();
    assert.match(new TextDecoder().decode(value), /event/);
  }
  assert.deepEqual(left, []);
  stream.write({ event: 9 });
  await clock.advance(2001);
  assert.deepEqual(left, ["the client reads too slowly"]);
  await assert.rejects(reader.read());
});

Deno.test("answers wait while servers are paused, and go on after it", async () => {
  await using it = await setup({ server: { faults: { stallAfterTokens: 5 } } });
  const session = it.gateway.open();
  const asking = post(
    `${session.baseUrl}/chat/completions`,
    JSON.stringify({ ...ask, max_tokens: 30, ignore_eos: true }),
    session.key,
  );
  await until(() => it.server.faults.stalled === true);
  const pausing = it.engine.pause("abort");
  it.server.setFaults({ stalled: false });
  await pausing;
  await it.engine.resume();
  const answer = await (await asking).json();
  assert.equal(answer.usage.completion_tokens, 30);
  const { rows } = await session.end();
  assert.equal(rows[0]!.responseIds.length, 30);
  assert.equal(rows[0]!.logProbs!.length, 30);
});
