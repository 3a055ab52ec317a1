import assert from "node:assert/strict";
import fc from "fast-check";
import { AbortedError, StateError, TimeoutError, UnreachableError } from "../../../src/errors.ts";
import { TCPStoreClient, TCPStoreServer } from "../../../src/rendezvous/mod.ts";
import { encodeRequest, utf8 } from "./_encode.ts";
import { FakeClock, until } from "../../_support/clock.ts";

const connect = (server: TCPStoreServer) =>
  TCPStoreClient.connect({ hostname: "127.0.0.1", port: server.port });

/** Whether the other side closes the connection without an answer. */
async function isClosed(socket: Deno.Conn): Promise<boolean> {
  try {
    return await socket.read(new Uint8Array(16)) === null;
  } catch (error) {
    return error instanceof Deno.errors.ConnectionReset;
  }
}

Deno.test("a server listens on loopback unless told otherwise", async () => {
  await using server = TCPStoreServer.listen();
  assert.equal(server.hostname, "127.0.0.1");
  assert.ok(server.port > 0);
});

Deno.test("a port in use is told by name", async () => {
  await using server = TCPStoreServer.listen();
  assert.throws(
    () => TCPStoreServer.listen({ port: server.port }),
    (error) => error instanceof UnreachableError && error.message.includes(`:${server.port}`),
  );
});

Deno.test({
  name: "without net permission the flag is named",
  permissions: { net: false },
  fn() {
    assert.throws(
      () => TCPStoreServer.listen({ port: 35001 }),
      (error: Error & { flag?: string }) => error.flag === "--allow-net=127.0.0.1:35001",
    );
  },
});

Deno.test("what a client sets the server has, and the other way round", async () => {
  await using server = TCPStoreServer.listen();
  await using client = await connect(server);
  await client.set("from client", utf8("a"));
  await client.countKeys();
  assert.deepEqual(server.get("/from client"), utf8("a"));
  server.set("/from server", utf8("b"));
  assert.deepEqual(await client.get("from server"), utf8("b"));
});

Deno.test("a value for so many readers is had by just as many, whatever else they ask", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 5 }),
      fc.array(fc.constantFrom("check", "wait"), { maxLength: 4 }),
      async (reads, before) => {
        await using server = TCPStoreServer.listen();
        server.set("/id", utf8("secret"), { reads });
        for (let reader = 0; reader < reads; reader++) {
          await using client = await connect(server);
          // As torch's ranks do: neither is a read.
          for (const ask of before) {
            if (ask === "check") assert.equal(await client.check(["id"]), true);
            else await client.wait(["id"]);
          }
          assert.deepEqual(await client.get("id"), utf8("secret"));
        }
        await using late = await connect(server);
        assert.equal(await late.check(["id"]), false);
        assert.equal(server.get("/id"), undefined);
        server.set("/id", utf8("another"));
        for (let again = 0; again < 3; again++) {
          assert.deepEqual(await late.get("id"), utf8("another"));
        }
      },
    ),
    { numRuns: 20 },
  );
  await using server = TCPStoreServer.listen();
  for (const reads of [0, -1, 1.5, NaN]) {
    assert.throws(() => server.set("/id", utf8("x"), { reads }), { code: "validation" });
  }
});

Deno.test("the server's wait gives the values in the order asked for", async () => {
  await using server = TCPStoreServer.listen();
  await using client = await connect(server);
  const values = server.wait(["/a", "/b"]);
  await client.set("b", utf8("second"));
  await client.set("a", utf8("first"));
  assert.deepEqual(await values, [utf8("first"), utf8("second")]);
});

Deno.test("a wait that times out says who came, what was heard and what is missing", async () => {
  await using server = TCPStoreServer.listen();
  await using client = await connect(server);
  await client.set("a", utf8("1"));
  await client.countKeys();
  using clock = FakeClock.install();
  const late = assert.rejects(
    server.wait(["/a", "/b"], { timeoutMs: 20, phase: "rank 1 joins" }),
    (error) => {
      assert.ok(error instanceof TimeoutError);
      assert.equal(error.phase, "rank 1 joins");
      assert.match(error.message, /1 clients ever, 1 now.*last request getNumKeys.*missing "\/b"/);
      return true;
    },
  );
  await clock.advance(20);
  await late;
});

Deno.test("the server's wait ends with its signal and with the server", async () => {
  const server = TCPStoreServer.listen();
  const controller = new AbortController();
  const aborted = server.wait(["/a"], { signal: controller.signal });
  const closed = server.wait(["/a"]);
  controller.abort(new Error("enough"));
  await assert.rejects(aborted, AbortedError);
  const rejected = assert.rejects(closed, StateError);
  await server[Symbol.asyncDispose]();
  await rejected;
  await assert.rejects(server.wait(["/a"]), StateError);
});

Deno.test("a key is made when a client wants it", async () => {
  await using server = TCPStoreServer.listen();
  let made = 0;
  server.onMissing((key) => key === "/g/g//cuda//0" ? Uint8Array.of(++made) : undefined);
  await using a = await connect(server);
  await using b = await connect(server);
  const both = await Promise.all([a.get("g/g//cuda//0"), b.get("g/g//cuda//0")]);
  assert.deepEqual(both, [Uint8Array.of(1), Uint8Array.of(1)]);
});

Deno.test("a handler that throws costs the asking client its connection, and is remembered", async () => {
  await using server = TCPStoreServer.listen();
  server.onMissing((key) => {
    if (key === "/bad") throw new Error("no id to be had");
    return undefined;
  });
  await using good = await connect(server);
  await using bad = await connect(server);
  await assert.rejects(bad.get("bad"));
  await good.set("a", utf8("1"));
  assert.deepEqual(await good.get("a"), utf8("1"));
  assert.equal(server.peersSeen.lastError, "no id to be had");
});

Deno.test("malformed bytes cost the connection they came on, no other", async () => {
  await using server = TCPStoreServer.listen();
  await using good = await connect(server);
  using bad = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await bad.write(utf8("GET / HTTP/1.1\r\n\r\n"));
  assert.ok(await isClosed(bad));
  await good.set("a", utf8("1"));
  assert.deepEqual(await good.get("a"), utf8("1"));
  assert.match(server.peersSeen.lastError!, /operation 0x47/);
});

Deno.test("a client that says nothing is dropped after the hello timeout", async () => {
  using clock = FakeClock.install();
  await using server = TCPStoreServer.listen({ helloTimeoutMs: 20 });
  await using polite = await connect(server);
  await polite.countKeys();
  using silent = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await until(() => server.peersSeen.connected === 2);
  await clock.advance(20);
  assert.ok(await isClosed(silent));
  assert.equal(await polite.countKeys(), 0);
});

Deno.test("connections beyond the limit are closed, and places become free again", async () => {
  await using server = TCPStoreServer.listen({ maxConnections: 1 });
  const first = await connect(server);
  using second = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  assert.ok(await isClosed(second));
  await first[Symbol.asyncDispose]();
  await until(() => server.peersSeen.connected === 0);
  await using third = await connect(server);
  assert.equal(await third.countKeys(), 0);
});

Deno.test("clients cannot make the server hold more bytes under way than allowed", async () => {
  await using server = TCPStoreServer.listen({ maxBufferedBytes: 10_000 });
  using greedy = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await greedy.write(encodeRequest({ op: "validate" }));
  const big = encodeRequest({ op: "set", key: "/k", value: new Uint8Array(50_000) });
  await greedy.write(big.subarray(0, 20_000)).catch(() => {});
  assert.ok(await isClosed(greedy));
  assert.match(server.peersSeen.lastError!, /more than 10000 bytes under way/);
});

Deno.test("a wait whose client is gone is answered to nobody", async () => {
  await using server = TCPStoreServer.listen();
  const gone = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await gone.write(encodeRequest({ op: "validate" }));
  await gone.write(encodeRequest({ op: "wait", keys: ["/late"] }));
  await until(() => server.peersSeen.lastOp === "wait");
  gone.close();
  await until(() => server.peersSeen.connected === 0);
  server.set("/late", utf8("1"));
  assert.equal(server.peersSeen.lastError, undefined);
});

Deno.test("what is stored is a copy, and so is what is given", async () => {
  await using server = TCPStoreServer.listen();
  const value = utf8("abc");
  server.set("/k", value);
  value[0] = 0;
  server.get("/k")![1] = 0;
  assert.deepEqual(server.get("/k"), utf8("abc"));
});
