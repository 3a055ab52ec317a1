/** The supervisor with a fake fleet and a fake clock. */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type FleetEvent,
  FleetSupervisor,
  type FleetSupervisorOptions,
} from "../../../src/fleet/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { FakeFleet, FakeServer } from "./_fake_fleet.ts";

const a = "http://a:1";
const b = "http://b:1";

interface Scene extends AsyncDisposable {
  readonly fleet: FakeFleet;
  readonly servers: ReadonlyMap<string, FakeServer>;
  readonly supervisor: FleetSupervisor;
  readonly events: FleetEvent[];
  /** Who does not answer probes. */
  readonly silent: Set<string>;
  /** Lets time go by, and all that comes of it settle. */
  pass(ms: number): Promise<void>;
  state(url: string): string;
  /** States that a server went through. */
  way(url: string): string[];
}

function stage(
  options: FleetSupervisorOptions & { readonly urls?: readonly string[]; readonly ours?: boolean } =
    {},
): Scene {
  const { urls = [a, b], ours = true, ...rest } = options;
  const clock = new FakeClock();
  const fleet = new FakeFleet(urls);
  const events: FleetEvent[] = [];
  const silent = new Set<string>();
  const servers = new Map(urls.map((url) => [url, new FakeServer(url)]));
  const supervisor = FleetSupervisor.start(fleet, {
    clock,
    probeMs: 1000,
    servers: ours ? [...servers.values()] : [],
    probe: (url) =>
      silent.has(url)
        ? Promise.reject(new Error("no answer"))
        : Promise.resolve({ weightVersion: "1" }),
    onEvent: (event) => events.push(event),
    ...rest,
  });
  return {
    async pass(ms) {
      const slices = Math.min(200, Math.ceil(ms / 20)) || 1;
      for (let i = 0; i < slices; i++) {
        await clock.advance(ms / slices);
        for (let turn = 0; turn < 60; turn++) await Promise.resolve();
      }
    },
    fleet,
    servers,
    supervisor,
    events,
    silent,
    state: (url) => supervisor.servers.find((server) => server.url === url)!.state,
    way: (url) =>
      events.filter((event) => event.url === url && event.kind === "state").map(({ to }) => to),
    [Symbol.asyncDispose]: () => supervisor.close(),
  };
}

Deno.test("a killed server is taken out at once, started, refitted and only then let in", async () => {
  await using scene = stage();
  await scene.pass(100);
  scene.servers.get(a)!.kill();
  await scene.pass(100);
  assert.deepEqual(scene.fleet.serving, [b]);
  assert.equal(scene.state(a), "dead");
  await scene.pass(5_000);
  assert.deepEqual(scene.way(a), ["healthy", "dead", "restarting", "stale", "healthy"]);
  assert.deepEqual(scene.fleet.calls, [`remove ${a} 0`, `add ${a}`]);
  assert.deepEqual(scene.fleet.serving, [b, a]);
  assert.deepEqual(scene.way(b), ["healthy"]);
});

Deno.test("killed four times within a minute a server is retired and told; an order starts it again", async () => {
  await using scene = stage();
  let server = scene.servers.get(a)!;
  for (let kill = 1; kill <= 4; kill++) {
    server.kill();
    const restarted = server;
    await scene.pass(10_000);
    server = restarted.latest;
  }
  assert.equal(scene.state(a), "retired");
  assert.equal(scene.events.at(-1)!.to, "retired");
  assert.match(scene.events.at(-1)!.reason, /started again 3 times .*60 s.* now its process ended/);
  assert.deepEqual(scene.fleet.serving, [b]);
  await scene.pass(600_000);
  assert.equal(scene.servers.get(a)!.starts.count, 4);
  const restarted = scene.supervisor.restart(a);
  await scene.pass(1_000);
  await restarted;
  assert.deepEqual(scene.fleet.serving, [b, a]);
});

Deno.test("a server that does not answer is suspect and serves on, then dead; answers bring it back by a refit only", async () => {
  await using scene = stage({ ours: false });
  scene.silent.add(a);
  await scene.pass(1_500);
  assert.equal(scene.state(a), "suspect");
  assert.deepEqual(scene.fleet.serving, [a, b]);
  await scene.pass(5_000);
  assert.equal(scene.state(a), "dead");
  assert.deepEqual(scene.fleet.serving, [b]);
  scene.silent.delete(a);
  await scene.pass(2_000);
  assert.deepEqual(scene.way(a), ["healthy", "suspect", "dead", "stale", "healthy"]);
});

Deno.test("without weights to bring a server waits, told once, until a sync reached it", async () => {
  await using scene = stage();
  scene.fleet.canRefit = false;
  scene.servers.get(a)!.kill();
  await scene.pass(60_000);
  assert.equal(scene.state(a), "stale");
  assert.equal(scene.events.filter(({ kind }) => kind === "waits").length, 1);
  assert.deepEqual(scene.fleet.serving, [b]);
  scene.fleet.tell(a, "serving", "it was synced");
  assert.equal(scene.state(a), "healthy");
});

Deno.test("a refit that fails is told and tried again", async () => {
  await using scene = stage();
  scene.fleet.refusals = [new Error("first"), new Error("second")];
  scene.servers.get(a)!.kill();
  await scene.pass(10_000);
  const failures = scene.events.filter(({ kind }) => kind === "refit_failed");
  assert.deepEqual(failures.map(({ reason }) => reason), ["first", "second"]);
  assert.equal(scene.state(a), "healthy");
});

Deno.test("weights that are not the fleet's make a server stale, whoever found out", async () => {
  await using scene = stage();
  scene.fleet.tell(a, "quarantined", "it says default");
  assert.equal(scene.state(a), "stale");
  assert.equal(scene.servers.get(a)!.starts.count, 1);
});

Deno.test("broken requests take a server out although it answers probes, but not the last one", async () => {
  await using scene = stage({ ours: false });
  await scene.pass(100);
  for (let i = 0; i < 3; i++) scene.supervisor.report(a, "failed");
  assert.equal(scene.state(a), "dead");
  for (let i = 0; i < 9; i++) scene.supervisor.report(b, "failed");
  assert.equal(scene.state(b), "suspect");
  scene.supervisor.report(b, "served");
  assert.equal(scene.state(b), "healthy");
});

Deno.test("too few healthy servers are told once, each time it happens", async () => {
  await using scene = stage({ minHealthy: 2 });
  const told = () => scene.events.filter(({ kind }) => kind === "below_minimum").length;
  let server = scene.servers.get(a)!;
  server.kill();
  await scene.pass(10_000);
  assert.equal(told(), 1);
  server = server.latest;
  server.kill();
  await scene.pass(10_000);
  assert.equal(told(), 2);
});

Deno.test("drain takes a server out after its requests and undrain refits it; the last one is kept", async () => {
  await using scene = stage({ drainMs: 777 });
  await scene.supervisor.drain(a);
  assert.deepEqual(scene.fleet.serving, [b]);
  assert.ok(scene.fleet.calls.includes(`remove ${a} 777`));
  await scene.pass(60_000);
  assert.deepEqual(scene.fleet.serving, [b]);
  await assert.rejects(scene.supervisor.drain(b), /last server/);
  scene.supervisor.undrain(a);
  await scene.pass(2_000);
  assert.deepEqual(scene.fleet.serving, [b, a]);
});

Deno.test("a drained server stays drained whatever ends and starts it, until it is undrained", async () => {
  for (const how of ["ordered", "killed"] as const) {
    await using scene = stage();
    await scene.supervisor.drain(a);
    if (how === "killed") scene.servers.get(a)!.kill();
    const restarted = how === "ordered" ? scene.supervisor.restart(`${a}/`) : undefined;
    await scene.pass(10_000);
    await restarted;
    assert.equal(scene.servers.get(a)!.starts.count, 2);
    assert.deepEqual([scene.state(a), scene.fleet.serving], ["stale", [b]]);
    assert.equal(scene.supervisor.servers[0]!.isDrained, true);
    scene.supervisor.undrain(a);
    await scene.pass(2_000);
    assert.deepEqual([scene.state(a), scene.fleet.serving], ["healthy", [b, a]]);
  }
});

Deno.test("an ordered restart drains first and is refused where the server is needed", async () => {
  await using scene = stage({ urls: [a], drainMs: 5 });
  await assert.rejects(scene.supervisor.restart(a), /needed/);
  const forced = scene.supervisor.restart(a, { force: true });
  await scene.pass(5_000);
  await forced;
  assert.equal(scene.servers.get(a)!.starts.count, 2);
  assert.deepEqual(scene.fleet.serving, [a]);
});

Deno.test("events are read from the call on, and the loop ends with the supervision", async () => {
  const scene = stage();
  const seen: string[] = [];
  const events = scene.supervisor.events();
  const reading = (async () => {
    for await (const { url, to } of events) seen.push(`${url} ${to}`);
  })();
  scene.servers.get(a)!.kill();
  await scene.pass(10_000);
  await scene.supervisor.close();
  await reading;
  assert.deepEqual(seen, [`${a} dead`, `${a} restarting`, `${a} stale`, `${a} healthy`]);
});

for (const how of ["throws", "rejects"]) {
  Deno.test(`a listener that ${how} harms nothing`, async () => {
    await using scene = stage({
      onEvent() {
        if (how === "rejects") return Promise.reject(new Error("mine")) as never;
        throw new Error("mine");
      },
    });
    scene.servers.get(a)!.kill();
    await scene.pass(10_000);
    assert.equal(scene.state(a), "healthy");
  });
}

Deno.test("whatever happens, who serves is healthy or suspect, and a quiet time heals all but the retired", async () => {
  const incident = fc.record({
    what: fc.constantFrom(
      "kill",
      "silence",
      "speak",
      "fail",
      "strange",
      "refuse",
      "drain",
      "undrain",
    ),
    url: fc.constantFrom(a, b),
    afterMs: fc.constantFrom(0, 300, 1_500, 70_000),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(incident, { maxLength: 25 }), async (incidents) => {
      await using scene = stage();
      for (const { what, url, afterMs } of incidents) {
        if (what === "kill") latest(scene.servers.get(url)!).kill();
        if (what === "silence") scene.silent.add(url);
        if (what === "speak") scene.silent.delete(url);
        if (what === "fail") scene.supervisor.report(url, "failed");
        if (what === "strange") scene.fleet.tell(url, "quarantined", "strange");
        if (what === "refuse") scene.fleet.refusals.push(new Error("no"));
        if (what === "drain") await scene.supervisor.drain(url).catch(() => {});
        if (what === "undrain") scene.supervisor.undrain(url);
        await scene.pass(afterMs);
        // What was decided is done once its turn came.
        await scene.pass(20);
        for (const serving of scene.fleet.serving) {
          const state = scene.state(serving);
          assert.ok(
            state === "healthy" || state === "suspect",
            `${serving} serves and is ${state}`,
          );
        }
      }
      scene.silent.clear();
      for (const url of [a, b]) {
        scene.supervisor.undrain(url);
        scene.supervisor.report(url, "served");
      }
      await scene.pass(200_000);
      for (const url of [a, b]) {
        assert.ok(["healthy", "retired"].includes(scene.state(url)), scene.way(url).join());
      }
      const untold = scene.events.filter(({ reason }) => reason === "");
      assert.deepEqual(untold, [], "every event says why");
    }),
    { numRuns: 60 },
  );
});

function latest(server: FakeServer): FakeServer {
  return server.latest === server ? server : latest(server.latest);
}

Deno.test("wrong numbers are refused by name", () => {
  for (const options of [{ probeMs: 0 }, { missedLimit: Number.NaN }, { restartLimit: -1 }]) {
    assert.throws(
      () => FleetSupervisor.start(new FakeFleet([a]), options),
      new RegExp(Object.keys(options)[0]!),
    );
  }
});
