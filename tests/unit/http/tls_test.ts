/** https with certificates of an authority of its own (`tests/_support/tls`). */
import assert from "node:assert/strict";
import { SGLangClient, type SGLangClientOptions } from "../../../src/client/mod.ts";
import type { UnreachableError } from "../../../src/errors.ts";
import { HttpPool } from "../../../src/http/mod.ts";
import { systemClock } from "../../../src/internal/clock.ts";
import { standIn } from "../../_support/http_stand_in.ts";
import { rawServer, send } from "../../_support/raw_server.ts";

const folder = new URL("../../_support/tls/", import.meta.url);
const pem = (name: string) => Deno.readTextFileSync(new URL(name, folder));
const ca = pem("ca.pem");

/** A server that speaks TLS with one of the certificates and answers as SGLang does. */
function secureServer(certificate: "server" | "expired" | "other") {
  const plain = standIn();
  const server = Deno.serve({
    port: 0,
    hostname: "127.0.0.1",
    key: pem("server.key"),
    cert: pem(`${certificate}.pem`),
    onListen() {},
  }, async (request) => {
    const { pathname } = new URL(request.url);
    const body = request.method === "GET" ? null : await request.text();
    return await fetch(plain.url + pathname, { method: request.method, body });
  });
  return {
    port: server.addr.port,
    url: `https://127.0.0.1:${server.addr.port}`,
    async [Symbol.asyncDispose]() {
      await server.shutdown();
      await plain[Symbol.asyncDispose]();
    },
  };
}

async function ask(url: string, options: Partial<SGLangClientOptions> = {}): Promise<string> {
  await using client = new SGLangClient({ url, retry: { retries: 0 }, ...options });
  return (await client.modelInfo()).modelType!;
}

Deno.test("a server whose authority is given is asked over https, by name and by address", async () => {
  await using server = secureServer("server");
  for (const host of ["127.0.0.1", "localhost"]) {
    const url = `https://${host}:${server.port}`;
    assert.equal(await ask(url, { caCerts: [ca] }), "qwen2");
  }
  // Several in one text, as stores have them.
  assert.equal(await ask(server.url, { caCerts: [`# store\n${pem("other.pem")}${ca}`] }), "qwen2");
});

const problems: readonly [string, "server" | "expired" | "other", string[], RegExp][] = [
  ["an authority that nobody trusts", "server", [], /nobody that is trusted signed.* as caCerts/],
  ["a certificate that is too old", "expired", [ca], /is too old \(.*\): renew it/],
  [
    "a certificate for another name",
    "other",
    [ca],
    /is not for 127\.0\.0\.1 \(.*other\.example.*\). Call it by a name/,
  ],
];
for (const [what, certificate, caCerts, message] of problems) {
  Deno.test(`${what} is said by name, with what to do`, async () => {
    await using server = secureServer(certificate);
    await assert.rejects(ask(server.url, { caCerts }), (error: UnreachableError) => {
      assert.equal(error.code, "unreachable");
      assert.equal(error.reason, "tls");
      assert.ok(error.message.startsWith(`Cannot connect to SGLang server at ${server.url}: `));
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("https to a server without it, and http to one with it, say which it is", async () => {
  await using plain = standIn();
  const https = plain.url.replace("http:", "https:");
  await assert.rejects(ask(https), { reason: "tls", message: /Does it speak https\?.*http:\/\// });
  await using secure = secureServer("server");
  const http = secure.url.replace("https:", "http:");
  await assert.rejects(ask(http), { code: "protocol", message: /speaks TLS.*https:\/\// });
});

Deno.test("through a proxy the connection is still encrypted to the server", async () => {
  await using server = secureServer("server");
  let seen = "";
  await using proxy = rawServer(async (connection, request) => {
    const target = /^CONNECT 127\.0\.0\.1:(\d+) /.exec(request);
    using onward = await Deno.connect({ hostname: "127.0.0.1", port: Number(target![1]) });
    await send(connection, "HTTP/1.1 200 Connection established\r\n\r\n");
    const passOn = async (from: Deno.TcpConn, to: Deno.TcpConn) => {
      const buffer = new Uint8Array(65_536);
      for (;;) {
        const length = await from.read(buffer).catch(() => null);
        if (length === null) return;
        seen += new TextDecoder("latin1").decode(buffer.subarray(0, length));
        await send(to, buffer.subarray(0, length)).catch(() => {});
      }
    };
    await Promise.race([passOn(connection, onward), passOn(onward, connection)]);
  });
  const options = { caCerts: [ca], proxy: proxy.url, maxIdleConnections: 0 };
  assert.equal(await ask(server.url, options), "qwen2");
  assert.deepEqual(proxy.requests, [`CONNECT 127.0.0.1:${server.port} HTTP/1.1`]);
  assert.ok(seen.length > 500 && !seen.includes("model_info"), seen.slice(0, 100));
  // The proxy cannot pass itself off as the server.
  await assert.rejects(ask(server.url, { proxy: proxy.url }), { reason: "tls" });
});

Deno.test("caCerts that are no certificates are refused before anything is opened", () => {
  const wrong: unknown[] = [["/etc/ca.pem"], [""], [ca.slice(0, 200)], [7], ca, [
    pem("server.key"),
  ]];
  for (const caCerts of wrong) {
    assert.throws(
      () => new SGLangClient({ url: "https://a", caCerts: caCerts as string[] }),
      { code: "validation", message: /caCerts/ },
    );
  }
});

Deno.test("a call that is aborted while a silent peer should encrypt leaves nothing open", async () => {
  for (const when of ["at once", "in the handshake"]) {
    const greeted = Promise.withResolvers<void>();
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const peer = (async () => {
      using connection = await listener.accept();
      greeted.resolve();
      while (await connection.read(new Uint8Array(4096)) !== null);
    })();
    const stop = new AbortController();
    using pool = new HttpPool({
      url: `https://127.0.0.1:${listener.addr.port}`,
      clock: systemClock,
    });
    const sent = pool.send({ method: "GET", path: "/" }, stop.signal);
    if (when === "in the handshake") await greeted.promise;
    stop.abort(new Error(when));
    await assert.rejects(sent, { message: when });
    if (when === "in the handshake") await peer;
    else {
      listener.close();
      await peer.catch(() => {});
    }
  }
});
