/** The router of a supervised fleet, with a fake router and a fake clock. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type FleetEvent, FleetSupervisor } from "../../../src/fleet/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { FakeFleet, FakeRouter } from "./_fake_fleet.ts";

function stage() {
  const clock = new FakeClock();
  const router = new FakeRouter();
  const events: FleetEvent[] = [];
  const supervisor = FleetSupervisor.start(new FakeFleet(["http://a:1", "http://b:1"]), {
    clock,
    router,
    probeMs: 1000,
    probe: () => Promise.resolve({ weightVersion: "1" }),
    onEvent: (event) => events.push(event),
  });
  return {
    router,
    supervisor,
    async pass(ms: number) {
      for (let i = 0; i < 50; i++) {
        await clock.advance(ms / 50);
        for (let turn = 0; turn < 20; turn++) await Promise.resolve();
      }
    },
    get way() {
      return events.filter(({ url }) => url === router.url).map(({ to }) => to);
    },
    [Symbol.asyncDispose]: () => supervisor.close(),
  };
}

Deno.test("a router that is killed or frozen is started again, and the servers are not touched", async () => {
  await using scene = stage();
  await scene.pass(100);
  scene.router.kill();
  await scene.pass(3_000);
  assert.deepEqual(scene.way, ["dead", "restarting", "healthy"]);
  scene.router.isSilent = true;
  await scene.pass(8_000);
  const frozen = ["suspect", "dead", "restarting", "healthy"];
  assert.deepEqual(scene.way, ["dead", "restarting", "healthy", ...frozen]);
  assert.equal(scene.supervisor.router?.restarts, 2);
  assert.ok(scene.supervisor.servers.every(({ state }) => state === "healthy"));
  assert.equal(scene.supervisor.servers.length, 2);
});

Deno.test("a router that dies again and again is retired and told; an order starts it again", async () => {
  await using scene = stage();
  for (let kill = 0; kill < 4; kill++) {
    scene.router.kill();
    await scene.pass(10_000);
  }
  assert.equal(scene.way.at(-1), "retired");
  assert.equal(scene.router.starts, 4);
  const back = scene.supervisor.restart(`${scene.router.url}/`);
  await scene.pass(1_000);
  await back;
  assert.equal(scene.supervisor.router?.state, "healthy");
  scene.router.fails = true;
  const refused = assert.rejects(
    scene.supervisor.restart(scene.router.url),
    /did not come back: its port is taken/,
  );
  await scene.pass(100);
  await refused;
});

Deno.test("deaths with a steady minute between them are healed for ever", async () => {
  await using scene = stage();
  for (let kill = 0; kill < 10; kill++) {
    scene.router.kill();
    await scene.pass(70_000);
    assert.equal(scene.supervisor.router?.state, "healthy");
  }
  assert.equal(scene.router.starts, 11);
});

Deno.test("whatever happens to a router, it ends healthy or retired, and within its budget", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom("kill", "freeze", "fail", "work"), fc.nat(20_000)), {
        maxLength: 12,
      }),
      async (plan) => {
        await using scene = stage();
        const { router } = scene;
        for (const [what, pauseMs] of plan) {
          if (what === "kill") router.kill();
          if (what === "freeze") router.isSilent = true;
          if (what === "fail" || what === "work") router.fails = what === "fail";
          await scene.pass(pauseMs);
        }
        await scene.pass(120_000);
        const { state } = scene.supervisor.router!;
        assert.ok(state === "healthy" || state === "retired", state);
        // Each start was ordered by a death, or is one of a budget that a steady minute renews.
        assert.ok(router.starts <= 1 + 4 * plan.length, `${router.starts} starts`);
      },
    ),
    { numRuns: 50 },
  );
});
