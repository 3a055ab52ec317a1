/** Hosts with several addresses, with connections that only seem to be. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type Connector, connectToAny } from "../../../src/http/connect.ts";
import { SGLangClient } from "../../../src/client/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { standIn } from "../../_support/http_stand_in.ts";

type Way = "takes" | "refuses" | "cannot be reached" | "is silent";

/** A name whose addresses behave; Deno takes the first of them. */
function nameWith(ways: readonly Way[], clock = new FakeClock()) {
  const asked: string[] = [];
  const open = (hostname: string, signal: AbortSignal): Promise<Deno.TcpConn> => {
    const at = hostname === "name" ? 0 : Number(hostname.split(".").at(-1));
    asked.push(hostname === "name" ? "name" : String(at));
    const way = ways[at]!;
    if (way === "takes") return Promise.resolve(at as unknown as Deno.TcpConn);
    if (way === "refuses") return Promise.reject(new Deno.errors.ConnectionRefused(`by ${at}`));
    if (way === "cannot be reached") {
      return Promise.reject(
        Object.assign(new Error(`no route to ${at}`), { code: "EHOSTUNREACH" }),
      );
    }
    return new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  };
  const connector: Connector = {
    open: (hostname, _port, signal) => open(hostname, signal),
    addressesOf: () => Promise.resolve(ways.map((_, i) => `10.0.0.${i}`)),
    clock,
  };
  return { connector, asked, clock };
}

async function settle<T>(work: Promise<T>, clock: FakeClock): Promise<T | Error> {
  let result: { value: T | Error } | undefined;
  work.then((value) => result = { value }, (error) => result = { value: error });
  for (let i = 0; i < 30 && result === undefined; i++) {
    await clock.advance(1000);
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  }
  return result?.value ?? new Error("it hangs");
}

const { signal } = new AbortController();

Deno.test("whatever the addresses of a name do, the first that takes a connection is connected to", async () => {
  const way = fc.constantFrom<Way>("takes", "refuses", "cannot be reached", "is silent");
  await fc.assert(
    fc.asyncProperty(fc.array(way, { minLength: 1, maxLength: 5 }), async (ways) => {
      const { connector, clock } = nameWith(ways);
      const result = await settle(
        connectToAny({ hostname: "name", port: 1 }, connector, signal),
        clock,
      );
      const first = ways.indexOf("takes");
      if (first >= 0) assert.equal(result, first);
      else if (ways.at(-1) === "is silent") assert.match(String(result), /it hangs/);
      else assert.match(String(result), /by 0|no route to 0|name does not answer/);
      // Nothing waits any more, but for a last address that may take the call's whole time.
      if (!/it hangs/.test(String(result))) assert.equal(clock.pending, 0);
    }),
  );
});

Deno.test("an address is not looked up, and the signal ends the way through a name at any place", async () => {
  const literal = nameWith(["refuses", "takes"]);
  const to = { hostname: "10.0.0.0", port: 1 };
  await assert.rejects(connectToAny(to, literal.connector, signal), /by 0/);
  assert.deepEqual(literal.asked, ["0"]);
  for (let place = 1; place <= 3; place++) {
    const { connector, asked, clock } = nameWith(["is silent", "is silent", "is silent", "takes"]);
    const end = new AbortController();
    const work = connectToAny({ hostname: "name", port: 1 }, connector, end.signal);
    const ended = assert.rejects(work, /enough/);
    for (let i = 0; asked.length < place; i++) {
      assert.ok(i < 30);
      await clock.advance(3000);
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    }
    end.abort(new Error("enough"));
    await ended;
    assert.equal(clock.pending, 0);
  }
});

Deno.test("localhost finds a server that listens on one of its two addresses only", async () => {
  const four = standIn();
  await using _four = four;
  const { port } = new URL(four.url);
  await using client = new SGLangClient({ url: `http://localhost:${port}`, retry: { retries: 0 } });
  assert.equal((await client.modelInfo()).modelType, "qwen2");
  let six: Deno.HttpServer<Deno.NetAddr>;
  try {
    six = Deno.serve(
      { port: 0, hostname: "::1", onListen() {} },
      () => Response.json({ model_path: "m", model_type: "six" }),
    );
  } catch {
    return; // No IPv6 on this machine.
  }
  await using other = new SGLangClient({
    url: `http://localhost:${six.addr.port}`,
    retry: { retries: 0 },
    maxIdleConnections: 0,
  });
  assert.equal((await other.modelInfo()).modelType, "six");
  await six.shutdown();
});
