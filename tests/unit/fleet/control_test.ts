/** The control endpoint of a fleet: what it does, and for whom. */
import assert from "node:assert/strict";
import { controlledFleet, order, tellSynced } from "../../../src/cli/control_client.ts";
import { ValidationError } from "../../../src/errors.ts";
import {
  FleetControl,
  type FleetControlOptions,
  FleetSupervisor,
  type SyncedFleet,
} from "../../../src/fleet/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { run } from "../cli/_support.ts";
import { FakeFleet, FakeServer } from "./_fake_fleet.ts";

const a = "http://a:1";
const b = "http://b:1";

async function withControl(
  options: FleetControlOptions,
  test: (url: string, fleet: FakeFleet) => Promise<void>,
): Promise<void> {
  const fleet = new FakeFleet([a, b]);
  await using supervisor = FleetSupervisor.start(fleet, {
    clock: new FakeClock(),
    servers: [new FakeServer(a)],
    probe: () => Promise.resolve({ weightVersion: "7" }),
  });
  await using control = FleetControl.start(supervisor, options);
  await test(control.url, fleet);
}

const call = (url: string, key?: string) => ({ url, key, signal: new AbortController().signal });

Deno.test("it tells where every server stands, with process and log where they are known", async () => {
  const processOf = (url: string) => url === a ? { pid: 42, logFile: "/tmp/a.log" } : undefined;
  await withControl({ processOf }, async (url) => {
    const { servers } = await controlledFleet(call(url));
    assert.deepEqual(
      servers.map((server) => [server.url, server.state, server.pid, server.logFile]),
      [[a, "healthy", 42, "/tmp/a.log"], [b, "healthy", null, null]],
    );
  });
});

Deno.test("drain and undrain are obeyed; what cannot be done is refused with the reason", async () => {
  await withControl({}, async (url, fleet) => {
    const { servers: drained } = await order(call(url), "drain", { url: a });
    assert.equal(drained[0]!.isDrained, true);
    assert.deepEqual(fleet.serving, [b]);
    await assert.rejects(
      order(call(url), "drain", { url: b }),
      /^HttpError: http:\/\/b:1 is the last/,
    );
    await assert.rejects(order(call(url), "restart", { url: b }), /not started here/);
    await assert.rejects(order(call(url), "drain", { url: "http://c:1" }), /not supervised/);
    await assert.rejects(order(call(url), "drain", {}), /400: "url" must be a text/);
    const cli = await run(["drain", a, "--undo", "--control", url]);
    assert.deepEqual(cli, { code: 0, out: `${a}: comes back\n`, err: "" });
    assert.equal((await run(["drain", b, "--control", url])).code, 0);
  });
});

Deno.test("browsers, borrowed names and wrong keys are refused", async () => {
  await withControl({ key: "secret" }, async (url) => {
    await assert.rejects(controlledFleet(call(url)), /401/);
    await assert.rejects(controlledFleet(call(url, "wrong")), /401/);
    assert.equal((await controlledFleet(call(url, "secret"))).servers.length, 2);
    const authorization = "Bearer secret";
    const status = async (init: RequestInit) => {
      const response = await fetch(`${url}/drain`, { method: "POST", body: "{}", ...init });
      await response.body?.cancel();
      return response.status;
    };
    assert.equal(await status({ headers: { authorization, origin: "http://evil" } }), 403);
    assert.equal(await status({ headers: { authorization, "content-type": "text/plain" } }), 415);
    const json = { authorization, "content-type": "application/json" };
    assert.equal(await status({ headers: json, body: "[" }), 400);
    assert.equal(await status({ headers: json, body: `"${"x".repeat(70_000)}"` }), 400);
  });
});

Deno.test("a key that nobody could send, and a host that is none, are refused", async () => {
  for (const key of ["ключ", "a key", "line\n", ""]) {
    await assert.rejects(withControl({ key }, () => Promise.resolve()), ValidationError);
  }
  await withControl({}, async (url) => {
    using connection = await Deno.connect({ port: Number(new URL(url).port) });
    const request = "GET /fleet HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n";
    await connection.write(new TextEncoder().encode(request));
    assert.match(await new Response(connection.readable).text(), /^HTTP\/1.1 403/);
  });
});

Deno.test("a sync is told to the fleet whose servers it synced, and to nobody else", async () => {
  const told: SyncedFleet[] = [];
  const onSynced = (sync: SyncedFleet) => {
    told.push(sync);
    return Promise.resolve();
  };
  await withControl({ onSynced }, async (url) => {
    const sync = { version: "step-1", checkpoint: "/c/step-1", servers: [a, b] };
    assert.deepEqual(await tellSynced(call(url), sync), []);
    assert.deepEqual(told, [sync]);
    assert.deepEqual(await tellSynced(call(url), { ...sync, servers: ["http://z:1"] }), []);
    assert.equal(told.length, 1);
    const leftOut = await tellSynced(call(url), { ...sync, servers: [b, "http://z:1"] });
    assert.deepEqual(leftOut.map((server) => server.url), [a]);
    assert.equal(told.length, 2);
  });
  const nobody = call("http://127.0.0.1:9");
  assert.deepEqual(
    await tellSynced(nobody, { version: "1", checkpoint: "/c", servers: [a] }),
    [],
  );
});

Deno.test("a command without a serve says what is missing and ends with 3", async () => {
  const { code, err } = await run(["restart", a, "--control", "http://127.0.0.1:9"]);
  assert.equal(code, 3);
  assert.match(err, /does "sglang-rl serve" run on this machine/);
});

Deno.test("a taken port is named", async () => {
  await withControl({}, async (url) => {
    const { port } = new URL(url);
    await assert.rejects(withControl({ port: Number(port) }, () => Promise.resolve()), {
      code: "state",
      message: new RegExp(`Port ${port}`),
    });
  });
});
