/** `serve` with the real SGLang and router, when parts of it are killed, and when it ends itself. */
import assert from "node:assert/strict";
import { makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { sleep } from "../../../src/internal/deadline.ts";
import { modelPath, pythonOf, serverPython } from "../../_support/real.ts";
import { jsonLines, run } from "../../unit/cli/_support.ts";
import { loadFleet } from "../fleet/_killing.ts";
import { type Serving, startServing } from "./_serving.ts";

/** Longest wait for anything; a start that hangs is given up before. */
const PATIENCE_MS = 300_000;

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const startedAt = performance.now();
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    assert.ok(performance.now() - startedAt < PATIENCE_MS, `waited too long until ${what}`);
    await sleep(100);
  }
}

function untilHealthy(serving: Serving, url: string, otherThan?: number | null) {
  return until(`${url} is healthy`, async () => {
    const server = (await serving.fleet()).servers.find((one) => one.url === url)!;
    return server.state === "healthy" && server.pid !== otherThan ? server : undefined;
  });
}

Deno.test("serve outlives a replica and its router that are killed, and obeys the other commands", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-serve-" });
  try {
    for (const step of [0, 1]) await makeTinyCheckpoint(`${folder}/step-${step}`, { seed: step });
    await using serving = await startServing({
      python: serverPython(),
      args: [`${folder}/step-0`, "-n", "2", `--log-dir=${folder}/logs`],
    });
    const { url, servers, router } = await serving.ready();
    const [victim, other] = servers as [string, string];
    const control = ["--control", serving.control];
    const versions = async () => {
      const { code, out, err } = await run(["status", "-r", url, "--json"]);
      assert.equal(code, 0, err);
      return jsonLines(out).map((one) => one.weight_version);
    };

    await t.step("sync names the checkpoint, and tells serve of it", async () => {
      const { code, err } = await run(["sync", `${folder}/step-1`, "-r", url, ...control]);
      assert.equal(code, 0, err);
      assert.deepEqual(await versions(), ["step-1", "step-1"]);
    });

    await t.step("both come back with the synced weights, and no request fails", async () => {
      await using engine = await AsyncSGLang.connect(url);
      const load = loadFleet(engine, { requests: 16, tokens: 24, version: "step-1" });
      {
        await using _load = load;
        const { pid } = await untilHealthy(serving, victim);
        Deno.kill(pid!, "SIGKILL");
        await untilHealthy(serving, victim, pid);
        const routerPid = (await serving.fleet()).router!.pid!;
        Deno.kill(routerPid, "SIGKILL");
        await until("another router answers", async () => {
          const { router: now } = await serving.fleet();
          if (now!.state !== "healthy" || now!.pid === routerPid) return undefined;
          const answer = await fetch(`${router}/workers`).catch(() => undefined);
          const told = await answer?.json() as { workers: unknown[] } | undefined;
          return told?.workers.length === 2 ? told : undefined;
        });
      }
      assert.deepEqual([load.errors, load.strange], [[], []]);
      assert.ok(load.count.samples > 0 && load.count.streams > 0);
      assert.deepEqual(await versions(), ["step-1", "step-1"]);
    });

    await t.step("drain, restart, logs, rollback, pause, resume, metrics", async () => {
      const order = (...args: string[]) => run([...args, ...control]);
      assert.equal((await order("drain", victim)).out, `${victim}: drained\n`);
      const { code, err } = await order("drain", other);
      assert.equal(code, 1);
      assert.match(err, /last server that serves/);
      assert.equal((await order("drain", victim, "--undo")).code, 0);
      const { pid } = await untilHealthy(serving, victim);
      assert.equal((await order("restart", victim)).code, 0);
      const again = await untilHealthy(serving, victim, pid);
      assert.equal(again.weightVersion, "step-1");
      const logs = await order("logs", victim, "-n", "5");
      assert.equal(logs.out.trimEnd().split("\n").length, 5);
      assert.equal((await order("logs", router)).code, 0);
      const back = await run(["sync", folder, "--rollback", "-r", url, ...control]);
      assert.equal(back.code, 0, back.err);
      assert.deepEqual(await versions(), ["step-0", "step-0"]);
      assert.equal((await run(["pause", "-r", url])).code, 0);
      assert.equal((await run(["resume", "-r", url])).code, 0);
      assert.equal((await run(["generate", "Hello", "-r", url, "-m", "2"])).code, 0);
      const metrics = await run(["metrics", "-r", url]);
      assert.ok(metrics.out.includes(`sglang_rl_server_ready{server="${victim}"} 1\n`));
    });

    await t.step(
      "the page shows both, drains for all who go by serve, and tells a pause",
      async () => {
        const key = "the-key-of-this-page";
        const stop = new AbortController();
        const listening = Promise.withResolvers<string>();
        const page = run(["dashboard", "-r", url, ...control, "--listen", "0"], {
          env: { SGLANG_RL_DASHBOARD_KEY: key },
          signal: stop.signal,
          onOut: (out) => listening.resolve(/http:\S+/.exec(out)![0]),
        });
        page.then(({ err }) => listening.reject(new Error(err)));
        const at = await listening.promise;
        const press = async (what: string) => {
          const headers = { authorization: `Bearer ${key}` };
          const answer = await fetch(`${at}api/do/${what}`, { method: "POST", headers });
          assert.equal(answer.status, 200, await answer.text());
        };
        const shows = (what: string, isIt: (tile: Record<string, unknown>) => boolean) =>
          until(`the page shows ${what}`, async () => {
            const { servers } = await (await fetch(`${at}api/state`)).json();
            const tile = servers.find((one: { url: string }) => one.url === victim);
            return servers.length === 2 && isIt(tile) ? tile : undefined;
          });
        await shows(
          "its weights",
          ({ weightVersion, state }) => weightVersion === "step-0" && state === "healthy",
        );
        await press(`drain?server=${victim}`);
        const drained = (await serving.fleet()).servers.find((one) => one.url === victim)!;
        assert.equal(drained.isDrained, true);
        await shows("that it is drained", ({ state }) => state === "drained");
        await press(`undrain?server=${victim}`);
        await untilHealthy(serving, victim);
        await shows("that it serves", ({ state }) => state === "healthy");
        assert.equal((await run(["pause", "-s", victim])).code, 0);
        await shows("another's pause", ({ isReady, isPaused }) => isReady === false && !isPaused);
        assert.equal((await run(["resume", "-s", victim])).code, 0);
        await shows("that it takes requests", ({ isReady }) => isReady === true);
        stop.abort();
        await page;
      },
    );

    Deno.kill(serving.pid, "SIGTERM");
    assert.equal(await serving.ended, 143);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("however serve ends, none of its processes stays", async (t) => {
  const start = (inTerminal: boolean) =>
    startServing({ python: pythonOf(), args: [modelPath("tiny"), "--router"], inTerminal });
  const untilNone = (serving: Serving) =>
    until("all have ended", async () => (await serving.processes()).length === 0 || undefined);

  await t.step("kill -9", async () => {
    await using serving = await start(false);
    const { url } = await serving.ready();
    assert.ok((await serving.processes()).length >= 5, "serve, keepers, router, SGLang's");
    Deno.kill(serving.pid, "SIGKILL");
    await untilNone(serving);
    await assert.rejects(fetch(url), TypeError);
  });

  await t.step("its terminal is closed", async () => {
    await using serving = await start(true);
    const { url } = await serving.ready();
    assert.ok((await serving.processes()).length >= 5, "serve, keepers, router, SGLang's");
    await serving.closeTerminal();
    assert.equal(await serving.ended, 129);
    await untilNone(serving);
    await assert.rejects(fetch(url), TypeError);
  });

  await t.step("SIGHUP while the servers start", async () => {
    await using serving = await start(false);
    await until("SGLang runs", async () => {
      const running = await serving.processes();
      return running.length >= 4 || undefined;
    });
    Deno.kill(serving.pid, "SIGHUP");
    assert.equal(await serving.ended, 129);
    await untilNone(serving);
  });
});
