import assert from "node:assert/strict";
import { connectTcp } from "../../../src/runtime/connect_tcp.ts";

/** A peer that reads until the other side closes. */
function reader() {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.TcpConn>();
  const read = async (connection: Deno.TcpConn) => {
    while (await connection.read(new Uint8Array(64)).catch(() => null) !== null);
    if (open.delete(connection)) connection.close();
  };
  const peers: Promise<void>[] = [];
  const accepting = (async () => {
    for await (const connection of listener) {
      open.add(connection);
      peers.push(read(connection));
    }
  })();
  return {
    address: { hostname: "127.0.0.1", port: listener.addr.port },
    /** Connections that the other side leaves open, a long while after the last thing it did. */
    async left(): Promise<number> {
      for (let turns = 0; turns < 2_000 && open.size > 0; turns++) await turn();
      return open.size;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      for (const connection of open) connection.close();
      open.clear();
      await Promise.all(peers);
    },
  };
}

/** A turn of the event loop. Deadlines fire as timers, and the fault that is tried needs that. */
// deno-lint-ignore sglang-rl/no-real-time-in-unit-tests
const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

Deno.test("a connection that is given up at any moment is closed", async () => {
  await using peer = reader();
  await Promise.all(Array.from({ length: 300 }, async (_, i) => {
    const stop = new AbortController();
    const connecting = connectTcp({ ...peer.address, signal: stop.signal });
    const aborting = (async () => {
      for (let turns = 0; turns < i % 50; turns++) await turn();
      stop.abort(new Error(`after ${i % 50} turns`));
    })();
    try {
      (await connecting).close();
    } catch (error) {
      assert.equal((error as Error).message, `after ${i % 50} turns`);
    }
    await aborting;
  }));
  assert.equal(await peer.left(), 0);
});

/** Where nobody listens. */
const nobody = { hostname: "127.0.0.1", port: 1 };

Deno.test("a signal that has fired opens nothing, and a refusal is told as it is", async () => {
  await assert.rejects(
    connectTcp({ ...nobody, signal: AbortSignal.abort(new Error("before")) }),
    { message: "before" },
  );
  await assert.rejects(
    connectTcp({ ...nobody, signal: new AbortController().signal }),
    Deno.errors.ConnectionRefused,
  );
});
