import assert from "node:assert/strict";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { Monitor } from "../../../src/telemetry/mod.ts";
import { FakeClock, until } from "../../_support/clock.ts";
import { parsePrometheus } from "../telemetry/_prometheus.ts";
import { checkpoint, recordingLogger } from "./_fleet.ts";

/** A router stand-in at one address, which passes requests on and can go and come. */
class Router implements AsyncDisposable {
  #workers: readonly string[] = [];
  #port = 0;
  #server: Deno.HttpServer<Deno.NetAddr> | undefined;
  #stop: AbortController | undefined;
  /** What it says instead of passing a request on. */
  refusal: { readonly status: number; readonly message: string } | undefined;
  /** Requests that went through it. */
  passed = 0;

  constructor(workers: readonly string[]) {
    this.start(workers);
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  start(workers: readonly string[]): void {
    this.#workers = workers;
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    const listen = { port: this.#port, hostname: "127.0.0.1", signal, onListen() {} };
    this.#server = Deno.serve(listen, async (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/health") return new Response(null);
      if (pathname === "/workers") {
        const workers = this.#workers.map((url) => ({ id: url, url, is_healthy: true }));
        return Response.json({ workers });
      }
      if (pathname !== "/generate") return new Response(null, { status: 404 });
      if (this.refusal !== undefined) {
        const { status, message } = this.refusal;
        return Response.json({ error: { message } }, { status });
      }
      this.passed++;
      const body = await request.text();
      return await fetch(`${this.#workers[0]}/generate`, { method: "POST", body });
    });
    this.#port = this.#server.addr.port;
  }

  /** Lists these from now on. */
  list(workers: readonly string[]): void {
    this.#workers = workers;
  }

  async die(): Promise<void> {
    this.#stop?.abort();
    await this.#server?.finished;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.die();
  }
}

const call = { maxNewTokens: 3, ignoreEos: true } as const;

for (const way of ["generate", "stream"] as const) {
  Deno.test(`${way} goes to the servers while the router is gone, and back, told once`, async () => {
    // A stream is opened again after a short pause.
    using clock = FakeClock.install({ skipUpToMs: 50 });
    await using one = await EmbeddedServer.start({ model: await checkpoint("a") });
    await using other = await EmbeddedServer.start({ model: await checkpoint("a") });
    await using router = new Router([one.url, other.url]);
    const logger = recordingLogger();
    await using engine = await AsyncSGLang.connect(router.url, {
      logger,
      retry: { retries: 0 },
    });
    const events: string[] = [];
    using _listening = engine.onRouterEvent(({ to, url }) => {
      assert.equal(url, router.url);
      events.push(to);
    });
    const ask = async () => {
      if (way === "generate") return (await engine.generate("Hi", call)).ids.length;
      for await (const { final } of engine.stream("Hi", call)) if (final) return final.ids.length;
      return 0;
    };
    assert.equal(await ask(), 3);
    assert.deepEqual([router.passed, events], [1, []]);

    await router.die();
    await engine.quarantineWorker(one.url, "only servers that may serve are asked");
    const before = one.stats.generatedTokens;
    for (let i = 0; i < 3; i++) {
      assert.equal(await ask(), 3);
    }
    assert.deepEqual(events, ["gone"]);
    assert.equal(one.stats.generatedTokens, before);
    assert.equal(other.stats.generatedTokens, 9);

    // It comes back without the server that may not serve.
    router.start([other.url]);
    await clock.advance(1_000);
    await until(() => events.length === 2);
    assert.equal(await ask(), 3);
    assert.deepEqual([router.passed, events], [2, ["gone", "back"]]);
    const told = logger.warnings.filter((line) =>
      /directly until it is back|through it/.test(line)
    );
    assert.equal(told.length, 2);
  });
}

/** What the real router says when its servers are gone. */
const refusals = [
  { status: 503, message: "No available workers (all circuits open or unhealthy)" },
  {
    status: 500,
    message: "error sending request for url (http://10.0.0.1:1/generate). " +
      "URL: http://10.0.0.1:1/generate",
  },
];

for (const way of ["generate", "stream"] as const) {
  Deno.test(`${way} goes to the servers while those of the router are gone`, async () => {
    await using one = await EmbeddedServer.start({ model: await checkpoint("a") });
    await using router = new Router([one.url]);
    await using engine = await AsyncSGLang.connect(router.url, { retry: { retries: 0 } });
    using monitor = new Monitor({ engine });
    const ask = async () => {
      if (way === "generate") return (await engine.generate("Hi", call)).ids.length;
      let last = 0;
      for await (const delta of engine.stream("Hi", call)) last = delta.final?.ids.length ?? last;
      return last;
    };
    for (const refusal of refusals) {
      router.refusal = refusal;
      assert.equal(await ask(), 3);
    }
    // An error of a server's own is no reason to ask another.
    router.refusal = { status: 500, message: "CUDA error: device-side assert triggered" };
    await assert.rejects(ask(), /device-side assert/);
    assert.equal(router.passed, 0);
    router.refusal = undefined;
    await ask();
    assert.equal(router.passed, 1);
    const metrics = parsePrometheus(await monitor.metrics());
    assert.equal(metrics.get('sglang_rl_requests_total{outcome="answered"}'), 3);
    assert.equal(metrics.get('sglang_rl_requests_total{outcome="failed"}'), 1);
  });
}

for (const way of ["generate", "stream"] as const) {
  Deno.test(`${way} past a router asks none that those who run it left out`, async () => {
    await using first = await EmbeddedServer.start({ model: await checkpoint("a") });
    await using second = await EmbeddedServer.start({ model: await checkpoint("a") });
    await using router = new Router([first.url, second.url]);
    await using engine = await AsyncSGLang.connect(router.url, { retry: { retries: 0 } });
    // One died and is back at its address, with weights that are not the fleet's yet.
    router.list([second.url]);
    router.refusal = refusals[0];
    for (let i = 0; i < 4; i++) {
      if (way === "generate") await engine.generate("Hi", call);
      else await Array.fromAsync(engine.stream("Hi", call));
    }
    assert.deepEqual([first.stats.generatedTokens, second.stats.generatedTokens], [0, 12]);
  });
}

for (const way of ["generate", "stream"] as const) {
  Deno.test(`${way} waits where all servers behind a router are gone, as long as it may`, async () => {
    using _clock = FakeClock.install({ skipUpToMs: 2_000 });
    const model = await checkpoint("a");
    const before = await EmbeddedServer.start({ model });
    await using router = new Router([before.url]);
    router.refusal = refusals[0];
    const connect = (servingTimeoutMs: number, logger = recordingLogger()) =>
      AsyncSGLang.connect(router.url, { retry: { retries: 0 }, servingTimeoutMs, logger });
    const logger = recordingLogger();
    await using patient = await connect(1e9, logger);
    await using hasty = await connect(10_000);
    before.crash();
    await before.close();
    const ask = async (engine: AsyncSGLang) => {
      if (way === "generate") return (await engine.generate("Hi", call)).ids.length;
      for await (const { final } of engine.stream("Hi", call)) if (final) return final.ids.length;
      return 0;
    };
    await assert.rejects(ask(hasty), { code: "unreachable" });
    const answer = ask(patient);
    await until(() => logger.warnings.some((line) => /again|goes on/.test(line)));
    const port = Number(new URL(before.url).port);
    await using _after = await EmbeddedServer.start({ model, port });
    assert.equal(await answer, 3);
  });
}
