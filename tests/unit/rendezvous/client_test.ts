import assert from "node:assert/strict";
import {
  AbortedError,
  ProtocolError,
  TimeoutError,
  UnreachableError,
} from "../../../src/errors.ts";
import { TCPStoreClient, TCPStoreServer } from "../../../src/rendezvous/mod.ts";
import { utf8 } from "./_encode.ts";
import { freePort } from "../../_support/free_port.ts";
import { FakeClock, turns, until } from "../../_support/clock.ts";

const connect = (port: number) => TCPStoreClient.connect({ hostname: "127.0.0.1", port });

Deno.test("a client does all that torch's client does", async () => {
  await using server = TCPStoreServer.listen();
  await using client = await connect(server.port);
  assert.equal(await client.join(), 1);
  assert.deepEqual(server.get("init/"), utf8("1"));
  assert.equal(await client.add("n", 2n ** 40n), 2n ** 40n);
  assert.equal(await client.add("n", -1n), 2n ** 40n - 1n);
  await client.append("t", utf8("ab"));
  await client.append("t", utf8("c"));
  assert.deepEqual(await client.get("t"), utf8("abc"));
  assert.equal(await client.check(["n", "t"]), true);
  assert.equal(await client.check(["n", "u"]), false);
  const stored = await client.compareSet("t", { expected: utf8("abc"), desired: utf8("x") });
  assert.deepEqual(stored, utf8("x"));
  assert.equal(await client.countKeys(), 3);
  assert.equal(await client.delete("t"), true);
  assert.equal(await client.delete("t"), false);
});

Deno.test("calls made at once each get their own answer", async () => {
  await using server = TCPStoreServer.listen();
  await using client = await connect(server.port);
  const sums = await Promise.all(Array.from({ length: 50 }, () => client.add("n", 1n)));
  assert.deepEqual(sums, Array.from({ length: 50 }, (_, i) => BigInt(i + 1)));
});

Deno.test("a value of 8 MiB passes both ways", async () => {
  await using server = TCPStoreServer.listen();
  await using client = await connect(server.port);
  const value = new Uint8Array(8 * 1024 * 1024).fill(7);
  value[value.length - 1] = 9;
  await client.set("big", value);
  assert.deepEqual(await client.get("big"), value);
});

Deno.test("a wait that is given up leaves the client usable", async () => {
  await using server = TCPStoreServer.listen();
  await using client = await connect(server.port);
  {
    using clock = FakeClock.install();
    const late = assert.rejects(client.wait(["no"], { timeoutMs: 10, phase: "join" }), (error) => {
      return error instanceof TimeoutError && error.phase === "join";
    });
    await until(() => server.peersSeen.lastOp === "wait");
    await clock.advance(10);
    await late;
  }
  const signal = AbortSignal.abort("stop");
  await assert.rejects(client.wait(["no"], { signal }), AbortedError);
  const controller = new AbortController();
  const wait = client.wait(["no"], { signal: controller.signal });
  await turns(5);
  controller.abort();
  await assert.rejects(wait, AbortedError);
  assert.equal(await client.add("n", 4n), 4n);
});

Deno.test("a wait that is given up just as its key comes leaves the client usable", async () => {
  await using server = TCPStoreServer.listen();
  await using client = await connect(server.port);
  for (let i = 0; i < 20; i++) {
    const controller = new AbortController();
    const wait = client.wait([`k${i}`], { signal: controller.signal }).catch(() => {});
    await turns();
    server.set(`/k${i}`, utf8("1"));
    controller.abort();
    await wait;
    assert.equal(await client.add("n", 1n), BigInt(i + 1));
  }
});

Deno.test("a client waits for a store that is not up yet", async () => {
  using clock = FakeClock.install();
  const port = freePort();
  const connecting = connect(port);
  // The pause after the first refusal.
  await until(() => clock.pending === 2);
  await using server = TCPStoreServer.listen({ port });
  await clock.advance(50);
  await using client = await connecting;
  assert.equal(await client.countKeys(), 0);
  assert.equal(server.peersSeen.clients, 1);
});

Deno.test("a store that never comes is a timeout that says why", async () => {
  const port = freePort();
  using clock = FakeClock.install();
  const late = assert.rejects(
    TCPStoreClient.connect({ hostname: "127.0.0.1", port, timeoutMs: 30 }),
    (error) => error instanceof TimeoutError && /refused/i.test(error.message),
  );
  // The deadline, and the pause after the first refusal.
  await until(() => clock.pending === 2);
  await clock.advance(30);
  await late;
});

Deno.test("what answers but is no store is refused", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = serveOne(listener, utf8("HTTP/1.1 400 Bad Request\r\n\r\n"));
  await assert.rejects(connect(listener.addr.port), ProtocolError);
  await serving;
});

Deno.test("a store that answers nothing ends in a timeout, and the socket is closed", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  using clock = FakeClock.install();
  const connected = Promise.withResolvers<void>();
  const serving = serveOne(listener, new Uint8Array(0), connected.resolve);
  const late = assert.rejects(
    TCPStoreClient.connect({ hostname: "127.0.0.1", port: listener.addr.port, timeoutMs: 30 }),
    TimeoutError,
  );
  await connected.promise;
  await clock.pass(late, { ms: 30, isStuck: () => clock.pending > 0 });
  await serving;
});

Deno.test("when the store goes, the open call and all later ones fail at once", async () => {
  const server = TCPStoreServer.listen();
  await using client = await connect(server.port);
  const wait = assert.rejects(client.wait(["never"]), UnreachableError);
  await server[Symbol.asyncDispose]();
  await wait;
  await assert.rejects(client.add("n", 1n), UnreachableError);
});

Deno.test("a closed client says so", async () => {
  await using server = TCPStoreServer.listen();
  const client = await connect(server.port);
  await client[Symbol.asyncDispose]();
  await client[Symbol.asyncDispose]();
  await assert.rejects(client.countKeys(), /closed/);
});

/** Takes one connection, writes `answer`, and reads until the other side closes. */
async function serveOne(
  listener: Deno.TcpListener,
  answer: Uint8Array,
  onConnection: () => void = () => {},
): Promise<void> {
  using socket = await listener.accept();
  onConnection();
  await socket.write(answer);
  const buffer = new Uint8Array(256);
  try {
    while (await socket.read(buffer) !== null);
  } catch {
    // A reset is a close too.
  }
}
