/** Clients of our own small servers (metrics, dashboard, control of a fleet) that never go on. */
import assert from "node:assert/strict";
import { openDashboard } from "../../../src/dashboard/mod.ts";
import { FleetControl, FleetSupervisor } from "../../../src/fleet/mod.ts";
import { serveHttp } from "../../../src/internal/serve_http.ts";
import { FakeClock } from "../../_support/clock.ts";
import { FakeFleet, FakeServer } from "../fleet/_fake_fleet.ts";

interface Served extends AsyncDisposable {
  readonly port: number;
}

const portOf = (url: string) => Number(new URL(url).port);

/** Each server, the way it is started by its users. */
const servers: Readonly<Record<string, () => Promise<Served>>> = {
  "metrics": async () => {
    const server = await serveHttp({
      hostname: "127.0.0.1",
      port: 0,
      handler: () => new Response("x".repeat(1_000_000)),
    });
    return { port: server.addr.port, [Symbol.asyncDispose]: () => server.shutdown() };
  },
  "a dashboard": async () => {
    const dashboard = await openDashboard();
    return {
      port: portOf(dashboard.url),
      [Symbol.asyncDispose]: () => dashboard[Symbol.asyncDispose](),
    };
  },
  "the control of a fleet": () => {
    const stack = new AsyncDisposableStack();
    const supervisor = stack.use(FleetSupervisor.start(new FakeFleet(["http://a:1"]), {
      clock: new FakeClock(),
      servers: [new FakeServer("http://a:1")],
      probe: () => Promise.resolve({ weightVersion: "7" }),
    }));
    const control = stack.use(FleetControl.start(supervisor, { key: "k".repeat(16) }));
    return Promise.resolve({
      port: portOf(control.url),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    });
  },
};

/** What each client sends, and whether an answer to it comes. */
const clients: Readonly<Record<string, readonly [sent: string, isAnswered: boolean]>> = {
  "says nothing": ["", false],
  "sends half a head": ["GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: a", false],
  "sends half a body": [
    "POST /api/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
    true,
  ],
  "reads no answer to its end": [
    "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(50),
    true,
  ],
};

for (const [name, start] of Object.entries(servers)) {
  for (const [deed, [sent, isAnswered]] of Object.entries(clients)) {
    Deno.test(`a client that ${deed} does not put off the end of ${name}`, async () => {
      const server = await start();
      using connection = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
      await connection.write(new TextEncoder().encode(sent));
      // So that the server has seen it.
      if (isAnswered) assert.ok((await connection.read(new Uint8Array(8)))! > 0);
      await server[Symbol.asyncDispose]();
    });
  }
}
