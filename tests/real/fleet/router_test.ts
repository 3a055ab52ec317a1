/** The death of the real router, under load. */
import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { modelPath, routerPython } from "../../_support/real.ts";
import { launch } from "./_killing.ts";

Deno.test("a router that is killed is started again with the servers, and no request of ours fails", async () => {
  await using engine = await AsyncSGLang.fromPretrained(modelPath("tiny"), {
    ...launch,
    numReplicas: 2,
    router: { python: routerPython(), stopGraceMs: 0 },
  });
  const supervisor = engine.supervisor!;
  const { url } = engine.managed!.router!;
  const stop = new AbortController();
  const errors: string[] = [];
  let answers = 0;
  const ask = async (i: number) => {
    while (!stop.signal.aborted) {
      const options = { maxNewTokens: 24, ignoreEos: true, signal: stop.signal } as const;
      try {
        if (i % 2 === 0) {
          assert.equal((await engine.generate(`Request ${i}`, options)).ids.length, 24);
        } else {
          let length = 0;
          for await (const { final } of engine.stream(`Request ${i}`, options)) {
            length = final?.ids.length ?? length;
          }
          assert.equal(length, 24);
        }
        answers++;
      } catch (error) {
        if (!stop.signal.aborted) errors.push(String(error));
      }
    }
  };
  const load = Promise.all(Array.from({ length: 16 }, (_, i) => ask(i)));
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
  try {
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
    console.log(JSON.stringify({ answers, first, second }));
  } finally {
    stop.abort();
    await load;
  }
  assert.deepEqual(errors, []);
  assert.ok(answers > 0);
});
