import assert from "node:assert/strict";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { StateError, ValidationError } from "../../../src/errors.ts";
import { HttpServer } from "../../../src/gateway/http_server.ts";
import { asListenError } from "../../../src/internal/listen_error.ts";
import { systemClock } from "../../../src/internal/clock.ts";
import { serveHttp } from "../../../src/internal/serve_http.ts";
import { startTiny, tinyCheckpoint } from "../embedded/_support.ts";

Deno.test("whatever listens names a port that is taken", async () => {
  const model = await tinyCheckpoint();
  const handler = () => Promise.resolve(new Response());
  const limits = { headTimeoutMs: 1e6, bodyTimeoutMs: 1e6, maxConnections: 10, maxPipelined: 64 };
  await using taken = await startTiny();
  const port = Number(new URL(taken.url).port);
  const ways: readonly ((hostname: string, port: number) => Promise<unknown>)[] = [
    (hostname, port) => serveHttp({ hostname, port, handler }),
    (hostname, port) => EmbeddedServer.start({ model, hostname, port }),
    (hostname, port) => HttpServer.listen({ hostname, port, limits, clock: systemClock }, handler),
  ];
  for (const listen of ways) {
    await assert.rejects(listen("127.0.0.1", port), (error) => {
      assert.ok(error instanceof StateError);
      assert.match(
        error.message,
        new RegExp(`^Port ${port} of 127\\.0\\.0\\.1 is taken by another`),
      );
      return true;
    });
  }
});

Deno.test("an address that is none of this machine is told, however the system says it", () => {
  const said = [
    Object.assign(new Error("Cannot assign requested address (os error 99)"), {
      name: "AddrNotAvailable",
    }),
    new URIError("invalid host 'no..name': empty label found in FQDN"),
    new Error("failed to lookup address information: Name or service not known"),
    Object.assign(new Error("getaddrinfo ENOTFOUND no..name"), { code: "ENOTFOUND" }),
    Object.assign(new Error("listen EINVAL: invalid argument 192.0.2.1"), { code: "EINVAL" }),
  ];
  for (const error of said) {
    const told = asListenError(error, { hostname: "192.0.2.1", port: 0 });
    assert.ok(told instanceof ValidationError);
    assert.equal(told.message, "192.0.2.1 is not an address of this machine");
  }
  const other = new TypeError("else");
  assert.equal(asListenError(other, { hostname: "127.0.0.1", port: 0 }), other);
});
