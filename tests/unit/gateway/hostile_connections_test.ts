/** Agents that mean no good below HTTP: the bytes of their connections, and how many they open. */
import assert from "node:assert/strict";
import net from "node:net";
import { checkGatewayOptions } from "../../../src/gateway/options.ts";
import { readBody } from "../../../src/gateway/request_body.ts";
import { FakeClock, until } from "../../_support/clock.ts";
import { setup } from "./_support.ts";

const { limits } = checkGatewayOptions({});
const ask = JSON.stringify({ model: "m", messages: [{ role: "user", content: "a" }] });

/** Sends bytes on a connection of its own, and tells the statuses and the first error that came. */
async function send(
  url: string,
  bytes: string | Uint8Array,
  isEnough: (text: string) => boolean = () => false,
): Promise<{ statuses: number[]; code: string | undefined; isEnded: boolean }> {
  const { hostname, port } = new URL(url);
  const socket = net.connect(Number(port), hostname);
  let text = "";
  let isEnded = false;
  await new Promise<void>((resolve) => {
    socket.on("data", (data) => {
      text += data;
      if (isEnough(text)) resolve();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      isEnded = true;
      resolve();
    });
    socket.write(bytes);
  });
  socket.destroy();
  const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status));
  const code = /"code":"(\w+)"/.exec(text)?.[1];
  return { statuses, code, isEnded };
}

const answered = (text: string) => text.includes('"code":');

Deno.test("what is no request is told so, and its connection ends", async () => {
  await using it = await setup({ limits: { maxBodyBytes: 10_000 } });
  const { key, baseUrl } = it.gateway.open();
  const head = `POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${key}\r\n`;
  const tries: [string, number, string][] = [
    ["\x16\x03\x01\x02\x00\r\n\r\n", 400, "invalid_request"],
    ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid_request"],
    ["GET /v1/\0models HTTP/1.1\r\n\r\n", 400, "invalid_request"],
    [`${head}content-length: -5\r\n\r\n${ask}`, 400, "invalid_request"],
    [`${head}content-length: 99999999999999999999\r\n\r\n${ask}`, 400, "invalid_request"],
    [`${head}content-length: 5\r\ncontent-length: 6\r\n\r\n${ask}`, 400, "invalid_request"],
    // What a proxy before it could take for another request.
    [
      `${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
      "invalid_request",
    ],
    [`${head}x: ${"a".repeat(20_000)}\r\n\r\n`, 431, "head_too_long"],
    [`${head}${"x: 1\r\n".repeat(10_000)}\r\n`, 431, "head_too_long"],
    ["CONNECT evil:80 HTTP/1.1\r\nhost: a\r\n\r\n", 405, "method_not_allowed"],
  ];
  for (const [bytes, status, code] of tries) {
    const told = await send(it.gateway.url, bytes);
    assert.deepEqual(told, { statuses: [status], code, isEnded: true }, bytes.slice(0, 150));
  }
  const refused: [string | Uint8Array, number, string][] = [
    [`${head}content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc`, 415, "content_encoding"],
    [
      `${head}transfer-encoding: chunked\r\n\r\n${"1\r\n \r\n".repeat(20_000)}`,
      413,
      "body_too_long",
    ],
    [`${head}content-length: 10001\r\n\r\n`, 413, "body_too_long"],
    [`GET http://evil/v1/models HTTP/1.1\r\nhost: a\r\n\r\n`, 404, "not_found"],
    [
      `GET /v1/models HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n`,
      401,
      "invalid_api_key",
    ],
  ];
  for (const [bytes, status, code] of refused) {
    const told = await send(it.gateway.url, bytes, answered);
    assert.deepEqual([told.statuses, told.code], [[status], code]);
  }
  const honest = await fetch(`${baseUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}` },
    body: ask,
  });
  assert.equal(honest.status, 200);
  await honest.body?.cancel();
});

Deno.test("a head or a body that never ends is left", async () => {
  await using it = await setup({ limits: { headTimeoutMs: 50, bodyTimeoutMs: 50 } });
  const { key } = it.gateway.open();
  const post = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n";
  assert.deepEqual(await send(it.gateway.url, post), {
    statuses: [408],
    code: "head_timeout",
    isEnded: true,
  });
  const body =
    `${post}authorization: Bearer ${key}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello`;
  assert.deepEqual(await send(it.gateway.url, body), {
    statuses: [408],
    code: "body_timeout",
    isEnded: true,
  });
  // Nobody reads this one's body: it was refused before.
  const unread = `${post}content-length: 100\r\n\r\n`;
  assert.deepEqual(await send(it.gateway.url, unread), {
    statuses: [401],
    code: "invalid_api_key",
    isEnded: true,
  });
});

Deno.test("a body in crumbs is refused, however small it is", async () => {
  // In Node pieces that have come are one: such a body costs nothing there, and is waited for.
  await using it = await setup({ limits: { bodyTimeoutMs: 3_000 } });
  const { key } = it.gateway.open();
  const head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n" +
    `authorization: Bearer ${key}\r\ntransfer-encoding: chunked\r\n\r\n`;
  assert.deepEqual(await send(it.gateway.url, head + "1\r\n \r\n".repeat(12_000)), {
    statuses: [400],
    code: "body_in_crumbs",
    isEnded: true,
  });
  // As many pieces as that may be of any size.
  const [start, rest] = [ask.slice(0, 1), ask.slice(1)];
  const crumbs = "1\r\n \r\n".repeat(5_000);
  const size = rest.length.toString(16);
  const whole = `${head}${crumbs}1\r\n${start}\r\n${size}\r\n${rest}\r\n0\r\n\r\n`;
  const told = await send(it.gateway.url, whole, (text) => text.includes("usage"));
  assert.deepEqual(told.statuses, [200]);
});

Deno.test("pieces of a body may be of any size until there are ten thousand", async () => {
  const read = (sizes: number[]) =>
    readBody({
      method: "POST",
      path: "/",
      headers: new Headers(),
      body: (async function* () {
        for (const size of sizes) yield new TextEncoder().encode(" ".repeat(size));
      })(),
      signal: new AbortController().signal,
    }, { maxBytes: 1e6, timeoutMs: 60_000, clock: new FakeClock(), limits });
  const crumbs = (count: number) => new Array<number>(count).fill(1);
  assert.deepEqual(await read(crumbs(10_000)), {});
  assert.deepEqual(await read([...crumbs(10_000), 160_016]), {});
  await assert.rejects(read(crumbs(10_001)), { reason: "body_in_crumbs", status: 400 });
  // As large on average as they must be, and one byte less.
  assert.deepEqual(await read([10_001 * 16 - 10_000, ...crumbs(10_000)]), {});
  await assert.rejects(read([10_001 * 16 - 10_001, ...crumbs(10_000)]), {
    reason: "body_in_crumbs",
  });
});

Deno.test("requests that follow each other on a connection are answered in their order", async () => {
  await using it = await setup({ sessionLimits: { maxConcurrent: 4 } });
  const { key } = it.gateway.open();
  const one = `POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${key}\r\n` +
    `content-length: ${ask.length}\r\n\r\n${ask}`;
  const last = "GET /v1/nothing HTTP/1.1\r\nhost: a\r\n\r\n";
  const told = await send(it.gateway.url, one.repeat(20) + last, (text) => text.includes("404"));
  assert.equal(told.statuses.length, 21);
  assert.ok(told.statuses.slice(0, 20).every((status) => [200, 429].includes(status)));
  assert.equal(told.statuses[0], 200);
});

Deno.test("idle connections keep nobody out: the one that idles longest makes room", async () => {
  await using it = await setup({ limits: { maxConnections: 20 } });
  const { key, baseUrl } = it.gateway.open();
  const { hostname, port } = new URL(it.gateway.url);
  let closed = 0;
  const idle = Array.from({ length: 200 }, () => {
    const socket = net.connect(Number(port), hostname);
    socket.on("error", () => {});
    socket.on("close", () => closed++);
    return socket;
  });
  await until(() => closed >= 180);
  const honest = Array.from({ length: 5 }, async () => {
    const response = await fetch(`${baseUrl}/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}` },
      body: ask,
    });
    await response.body?.cancel();
    return response.status;
  });
  assert.deepEqual(await Promise.all(honest), [200, 200, 200, 200, 200]);
  for (const socket of idle) socket.destroy();
  await until(() => closed === 200);
});
