/** A real `torch.distributed.TCPStore` as client of our server and as server of our client. */
import assert from "node:assert/strict";
import { TCPStoreClient, TCPStoreServer } from "../../../src/rendezvous/mod.ts";
import { pythonOf } from "../../_support/real.ts";
import { freePort } from "../../_support/free_port.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);
const script = new URL("store.py", import.meta.url).pathname;

/** A free port of this machine. */

function startPython(
  version: "0.5.16" | "0.5.23",
  role: "client" | "server",
  port: number,
): Deno.ChildProcess {
  return new Deno.Command(pythonOf(version), {
    args: [script, role, String(port)],
    env: { LD_LIBRARY_PATH: "" },
    stdout: "piped",
    stderr: "null",
  }).spawn();
}

for (const version of ["0.5.16", "0.5.23"] as const) {
  Deno.test(`torch of SGLang ${version} is served as by its own store`, async () => {
    const expected = {
      get: "hello",
      demanded: "made for /demand",
      add: [5, -2],
      check: [true, false],
      keys: 5,
      deleted: [true, false],
      compareSet: ["one", "one", "two"],
      appended: "122",
      multi: ["q", "r"],
      timedOut: true,
      afterTimeout: "hello again",
      large: 8 * 1024 * 1024,
      late: "came late",
    };
    await using server = TCPStoreServer.listen();
    server.onMissing((key) => key === "/demand" ? utf8(`made for ${key}`) : undefined);
    const python = startPython(version, "client", server.port);
    // The client waits for this key after everything else.
    await server.wait(["/about to wait"], { timeoutMs: 120_000 });
    server.set("/late", utf8("came late"));
    assert.deepEqual(JSON.parse(await python.stdout.text()), expected);
    assert.equal((await python.status).code, 0);
    assert.equal(server.peersSeen.lastError, undefined);
  });

  Deno.test(`a store of torch of SGLang ${version} serves our client`, async () => {
    const port = freePort();
    const python = startPython(version, "server", port);
    {
      await using client = await TCPStoreClient.connect({
        hostname: "127.0.0.1",
        port,
        timeoutMs: 120_000,
      });
      // Torch's store waits until two processes have joined; the other one is itself.
      await client.join();
      await client.set("from client", utf8("a"));
      assert.deepEqual(await client.get("from server"), utf8("b"));
      assert.equal(await client.add("n", 5n), 5n);
      assert.equal(await client.add("n", -7n), -2n);
      assert.equal(await client.check(["n"]), true);
      assert.equal(await client.check(["missing"]), false);
      await assert.rejects(client.wait(["missing"], { timeoutMs: 200 }), /Timed out/);
      const compared = { expected: utf8(""), desired: utf8("one") };
      assert.deepEqual(await client.compareSet("c", compared), utf8("one"));
      await client.append("c", utf8("!"));
      assert.deepEqual(await client.get("c"), utf8("one!"));
      assert.equal(await client.delete("c"), true);
      const big = new Uint8Array(8 * 1024 * 1024).fill(3);
      await client.set("big", big);
      assert.deepEqual(await client.get("big"), big);
      await client.set("done", utf8("1"));
    }
    assert.deepEqual(JSON.parse(await python.stdout.text()), { fromClient: "a", n: "-2" });
    assert.equal((await python.status).code, 0);
  });
}
