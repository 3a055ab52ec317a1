/** The death of the real router, under load. */
import assert from "node:assert/strict";
import { loadFleet, startFleet } from "./_killing.ts";

Deno.test("a router that is killed is started again with the servers, and no request of ours fails", async () => {
  await using engine = await startFleet();
  const supervisor = engine.supervisor!;
  const { url } = engine.managed!.router!;
  const load = loadFleet(engine, { requests: 16, tokens: 24, version: "default" });
  const backAfter = async (kill: () => void, signal = AbortSignal.timeout(120_000)) => {
    const way: string[] = [];
    const killedAt = performance.now();
    const events = supervisor.events({ signal });
    const routes = Promise.withResolvers<void>();
    using _listening = engine.onRouterEvent(({ to }) => to === "back" && routes.resolve());
    kill();
    for await (const event of events) {
      if (event.url === url) way.push(event.to);
      if (way.at(-1) === "healthy") break;
    }
    await routes.promise;
    return { way, ms: Math.round(performance.now() - killedAt) };
  };
  {
    await using _load = load;
    const first = await backAfter(() => Deno.kill(engine.managed!.router!.pid!, "SIGKILL"));
    // A request may notice before the end of the process is known.
    const way = first.way.filter((state) => state !== "suspect");
    assert.deepEqual(way, ["dead", "restarting", "healthy"]);
    const workers = await fetch(`${url}/workers`).then((answer) => answer.json());
    assert.equal(workers.workers.length, 2);

    // A server dies with it: the router comes back without it, and gets it when it is refitted.
    const [victim] = engine.managed!.servers;
    const healed = supervisor.events({ signal: AbortSignal.timeout(240_000) });
    const second = await backAfter(() => {
      Deno.kill(engine.managed!.router!.pid!, "SIGKILL");
      Deno.kill(victim!.pid!, "SIGKILL");
    });
    for await (const event of healed) {
      if (event.url === victim!.url && event.to === "healthy") break;
    }
    const later = await fetch(`${url}/workers`).then((answer) => answer.json());
    assert.equal(later.workers.length, 2);
    assert.deepEqual(engine.workers.map(({ state }) => state), ["serving", "serving"]);
    assert.equal(supervisor.servers.length, 2);
    // deno-lint-ignore no-console -- the figures
    console.log(JSON.stringify({ ...load.count, first, second }));
  }
  assert.deepEqual(load.errors, []);
  assert.deepEqual(load.strange, []);
  assert.ok(load.count.samples > 0 && load.count.streams > 0);
});
