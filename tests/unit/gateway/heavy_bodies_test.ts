/**
 * Bodies that are as heavy as they can be for their length: what is made of them is made in slices. The
 * slices are counted, not timed; `bench/gateway_gaps.ts` times them.
 */
import assert from "node:assert/strict";
import net from "node:net";
import fc from "fast-check";
import { scanBody } from "../../../src/gateway/body_scan.ts";
import { checkGatewayOptions } from "../../../src/gateway/options.ts";
import { WORK_A_TURN, workTurns } from "../../../src/internal/work_turns.ts";
import { heavyBodies } from "../../_support/gateway_heavy.ts";
import { setup } from "./_support.ts";

const { limits } = checkGatewayOptions({});

Deno.test("no heavy body holds the loop for more than a slice, and each gets a clear answer", async () => {
  const maxBodyBytes = 48 * 1024;
  await using it = await setup({
    limits: { maxBodyBytes, maxMessages: 300, maxParts: 300, maxObjects: 1200, maxNames: 1200 },
  });
  const [bad, good] = [it.gateway.open(), it.gateway.open()];
  const post = async (path: string, key: string, body: string) => {
    const headers = { authorization: `Bearer ${key}` };
    const response = await fetch(it.gateway.url + path, { method: "POST", headers, body });
    return { status: response.status, text: await response.text() };
  };
  const honest = JSON.stringify({ model: "m", messages: [{ role: "user", content: "a" }] });
  const before = workTurns.turns;
  for (const { name, path, body } of heavyBodies(maxBodyBytes)) {
    const [heavy, other] = await Promise.all([
      post(path.replace("ID", bad.id), bad.key, body),
      post("/v1/chat/completions", good.key, honest),
    ]);
    assert.equal(other.status, 200, `beside ${name}: ${other.text.slice(0, 300)}`);
    assert.ok([200, 201, 400, 413].includes(heavy.status), `${name}: ${heavy.status}`);
    assert.ok(heavy.text.length < 200_000, `${name}: an answer of ${heavy.text.length}`);
    if (heavy.status < 400) continue;
    // What was sent is not sent back.
    assert.ok(heavy.text.length < 3000, `${name}: an error of ${heavy.text.length}`);
    assert.equal(typeof JSON.parse(heavy.text).error.message, "string");
  }
  assert.ok(workTurns.largest <= WORK_A_TURN, `a turn of ${workTurns.largest}`);
  // A dozen of the bodies are texts that are tokenised.
  assert.ok(workTurns.turns - before >= 12 * maxBodyBytes / WORK_A_TURN / 2);
});

Deno.test("what a body would make is counted before it is made, whatever its shape", async () => {
  const few = { ...limits, maxDepth: 6, maxObjects: 20, maxNames: 20, maxItems: 30, maxTexts: 30 };
  await fc.assert(fc.asyncProperty(fc.json({ maxDepth: 9 }), async (text) => {
    const counted = { objects: 0, names: 0, items: 0, texts: 0, depth: 0 };
    const count = (value: unknown, depth: number) => {
      if (typeof value === "string") counted.texts++;
      if (typeof value !== "object" || value === null) return;
      counted.objects++;
      counted.depth = Math.max(counted.depth, depth);
      const inner = Object.values(value);
      counted.items += Math.max(0, inner.length - 1);
      if (!Array.isArray(value)) {
        counted.names += inner.length;
        counted.texts += inner.length;
      }
      for (const one of inner) count(one, depth + 1);
    };
    count(JSON.parse(text), 1);
    const isTaken = counted.objects <= 20 && counted.names <= 20 && counted.items <= 30 &&
      counted.texts <= 30 && counted.depth <= 6;
    const scanning = scanBody(text, few, () => Promise.resolve());
    if (isTaken) await scanning;
    else await assert.rejects(scanning, { status: 400, reason: "invalid_request" });
  }));
});

Deno.test("a long body is scanned in slices", async () => {
  let turns = 0;
  await scanBody(`[${"1,".repeat(500_000)}1]`, limits, () => Promise.resolve(void turns++));
  assert.ok(turns >= 7, String(turns));
});

Deno.test("each count has a limit with a name, which the error tells", async () => {
  await using it = await setup({
    limits: {
      maxMessages: 2,
      maxTools: 1,
      maxParts: 2,
      maxStops: 2,
      maxLogitBias: 2,
      maxNameLength: 8,
    },
  });
  const session = it.gateway.open();
  const user = { role: "user", content: "a" };
  const tool = (name: string) => ({ type: "function", function: { name } });
  const cases: [string, string, Record<string, unknown>][] = [
    ["maxMessages", "chat/completions", { messages: [user, user, user] }],
    ["maxMessages", "responses", { input: [user, user, user] }],
    ["maxTools", "chat/completions", { tools: [tool("a"), tool("b")] }],
    ["maxStops", "chat/completions", { stop: ["a", "b", "c"] }],
    ["maxStops", "chat/completions", { stop_token_ids: [1, 2, 3] }],
    ["maxStops", "messages", { max_tokens: 1, stop_sequences: ["a", "b", "c"] }],
    ["maxLogitBias", "chat/completions", { logit_bias: { 1: 1, 2: 1, 3: 1 } }],
    ["maxParts", "chat/completions", {
      messages: [{ role: "user", content: [1, 2, 3].map(() => ({ type: "text", text: "a" })) }],
    }],
    ["maxNameLength", "chat/completions", { model: "m".repeat(9) }],
    ["maxNameLength", "chat/completions", { stop: ["123456789"] }],
    ["maxNameLength", "chat/completions", { tools: [tool("123456789")] }],
    ["maxNameLength", "chat/completions", { messages: [{ ...user, name: "123456789" }] }],
    ["maxNameLength", "messages/count_tokens", {
      messages: [{ role: "assistant", content: [{ type: "tool_use", id: "123456789" }] }],
    }],
  ];
  for (const [limit, api, more] of cases) {
    const response = await fetch(`${session.baseUrl}/${api}`, {
      method: "POST",
      headers: { authorization: `Bearer ${session.key}` },
      body: JSON.stringify({ model: "m", messages: api === "responses" ? null : [user], ...more }),
    });
    const { error } = await response.json();
    assert.equal(response.status, 400, `${limit} of ${api}`);
    assert.match(error.message, new RegExp(`limits\\.${limit}`));
  }
});

Deno.test("a session has so many requests at once, from their heads on", async () => {
  await using it = await setup({ sessionLimits: { maxConcurrent: 2 } });
  const session = it.gateway.open();
  const url = `${session.baseUrl}/messages/count_tokens`;
  const headers = { authorization: `Bearer ${session.key}` };
  const slow = [0, 1].map(() => {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const answer = fetch(
      url,
      { method: "POST", headers, body: readable, duplex: "half" } as RequestInit,
    );
    return { writer, answer };
  });
  const text = JSON.stringify({ model: "m", messages: [{ role: "user", content: "a" }] });
  await Promise.all(
    slow.map(({ writer }) => writer.write(new TextEncoder().encode(text.slice(0, 9)))),
  );
  // The heads have come when a third request is refused.
  let status = 200;
  while (status === 200) {
    const response = await fetch(url, { method: "POST", headers, body: text });
    status = response.status;
    const { error } = await response.json();
    if (status === 429) assert.equal(error.type, "rate_limit_error");
  }
  assert.equal(status, 429);
  for (const { writer } of slow) {
    await writer.write(new TextEncoder().encode(text.slice(9)));
    await writer.close();
  }
  for (const { answer } of slow) {
    const response = await answer;
    assert.equal(response.status, 200);
    await response.body?.cancel();
  }
});

Deno.test("who asks on and on before reading answers is told, and the connection ends", async () => {
  await using it = await setup({ limits: { maxPipelined: 3 } });
  const session = it.gateway.open();
  const body = JSON.stringify({ model: "m", messages: [{ role: "user", content: "a" }] });
  const one =
    `POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${session.key}\r\n` +
    `content-length: ${body.length}\r\n\r\n${body}`;
  const { hostname, port } = new URL(it.gateway.url);
  const socket = net.connect(Number(port), hostname);
  let text = "";
  socket.on("data", (data) => text += data);
  socket.on("error", () => {});
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.write(one.repeat(40));
  await closed;
  const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map((found) => found[1]);
  assert.deepEqual(statuses, ["200", "200", "200", "429"]);
  assert.match(text, /pipelined/);
  assert.equal(session.turns.length, 3);
});
