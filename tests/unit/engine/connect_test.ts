import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { until } from "../../_support/clock.ts";
import {
  answer,
  healthyServer,
  modelInfo,
  serverInfo,
  standIn,
} from "../../_support/http_stand_in.ts";

const once = { retry: { retries: 0 } };

/** What a router answers: healthy, but without the infos of a server. */
function routerOf(urls: readonly string[]) {
  const workers = urls.map((url, i) => ({ id: `w${i}`, url, is_healthy: true }));
  return {
    "GET /health": () => new Response("OK"),
    "GET /workers": () => Response.json({ workers }),
  };
}

// case 1

Deno.test("connecting asks for health, server info and model info, in that order", async () => {
  await using server = standIn();
  await using engine = await AsyncSGLang.connect(server.url);
  assert.deepEqual(server.calls, ["GET /health", "GET /server_info", "GET /model_info"]);
  assert.equal(engine.getTpSize(), 2);
  assert.equal(engine.getDpSize(), 3);
  assert.equal(engine.url, server.url);
  assert.equal(
    String(engine),
    `AsyncSGLang(url='${server.url}', model='/models/tiny', tp=2, dp=3, mode=external)`,
  );
});

// case 2

Deno.test("connecting to a dead port says where nobody answers", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  await assert.rejects(AsyncSGLang.connect(`http://127.0.0.1:${port}`, once), {
    code: "unreachable",
    message: new RegExp(`^Cannot connect to SGLang server at http://127.0.0.1:${port}`),
  });
});

// case 3

Deno.test("there is no engine before it is connected", () => {
  const construct = AsyncSGLang as unknown as new () => AsyncSGLang;
  assert.throws(() => new construct(), {
    code: "state",
    message: /Server URL not set. Call AsyncSGLang.connect\(\) or fromPretrained\(\)/,
  });
});

// case 13

Deno.test("the sizes are integers from 1 on", async () => {
  await using server = standIn();
  await using engine = await AsyncSGLang.connect([server.url]);
  for (const size of [engine.getTpSize(), engine.getDpSize()]) {
    assert.ok(Number.isInteger(size) && size >= 1);
  }
});

// case 13

Deno.test("weights of a model that is not on this machine: the error says how to give it", async () => {
  await using server = standIn();
  await using engine = await AsyncSGLang.connect(server.url);
  await assert.rejects(engine.getModelMetadata(), {
    code: "checkpoint",
    message: /cannot be read here: .*\/models\/tiny.*modelFolder/,
  });
});

// case 14

Deno.test("flushing an idle server is true, an unreachable or busy one false", async () => {
  let status = 200;
  const server = standIn({
    ...healthyServer,
    "POST /flush_cache": () => new Response("Cache flushed.", { status }),
  });
  await using engine = await AsyncSGLang.connect(server.url);
  assert.equal(await engine.flushCache(), true);
  status = 400;
  assert.equal(await engine.flushCache(), false);
  await server[Symbol.asyncDispose]();
  assert.equal(await engine.flushCache(), false);
});

// case 19

Deno.test("a restored engine connects again, owns no process, and holds no key", async () => {
  await using server = standIn();
  const options = { apiKey: "sk-a", maxConcurrency: 3, generateTimeoutMs: 1000 };
  await using engine = await AsyncSGLang.connect(server.url, options);
  const text = JSON.stringify(engine);
  assert.equal(text.includes("sk-a"), false);
  await using restored = await AsyncSGLang.fromJSON(JSON.parse(text), { apiKey: "sk-b" });
  assert.equal(server.requests.length, 6);
  assert.deepEqual(server.calls.slice(3), server.calls.slice(0, 3));
  assert.equal(server.requests[5]?.headers.get("authorization"), "Bearer sk-b");
  assert.match(String(restored), /mode=external/);
  assert.deepEqual(JSON.parse(JSON.stringify(restored)), JSON.parse(text));
});

Deno.test("the address of a router connects to the servers behind it", async () => {
  await using one = standIn();
  await using two = standIn();
  await using router = standIn(routerOf([one.url, two.url]));
  await using engine = await AsyncSGLang.connect(router.url, { vocabSize: 100 });
  assert.equal(engine.url, router.url);
  assert.deepEqual(engine.workers.map(({ url }) => url), [one.url, two.url]);
  assert.equal(engine.getDpSize(), 6);
});

Deno.test("a router's servers may be given, when it names them differently", async () => {
  await using server = standIn();
  await using router = standIn(routerOf(["http://inside:1"]));
  const target = { router: router.url, workers: [server.url] };
  await using engine = await AsyncSGLang.connect(target, { vocabSize: 100 });
  assert.deepEqual(engine.workers.map(({ url }) => url), [server.url]);
  assert.equal(router.calls.includes("GET /workers"), false);
});

Deno.test("servers of different models are refused", async () => {
  await using one = standIn();
  await using two = standIn({
    ...healthyServer,
    "GET /model_info": () => Response.json({ ...modelInfo, architectures: ["Llama"] }),
  });
  await assert.rejects(AsyncSGLang.connect([one.url, two.url]), /different models.*Llama/);
});

Deno.test("wrong targets and options are refused before or at connecting", async () => {
  await using server = standIn();
  await assert.rejects(AsyncSGLang.connect([]), /empty list/);
  await assert.rejects(AsyncSGLang.connect([server.url, server.url]), /twice/);
  await assert.rejects(AsyncSGLang.connect(server.url, { maxConcurrency: 0 }), /maxConcurrency/);
  await assert.rejects(AsyncSGLang.connect("nonsense"), { code: "validation" });
});

Deno.test("a server that is not healthy fails the connection with its status", async () => {
  await using server = standIn({ "GET /health": () => new Response(null, { status: 503 }) });
  await assert.rejects(AsyncSGLang.connect(server.url, once), { code: "http", status: 503 });
});

Deno.test("by default twice as many requests are in flight as the servers run at once", async () => {
  const held = Promise.withResolvers<void>();
  const holding = (most: Record<string, number>) =>
    standIn({
      ...healthyServer,
      "GET /server_info": () => Response.json({ ...serverInfo, ...most }),
      "POST /generate": async () => {
        await held.promise;
        return Response.json(answer());
      },
    });
  await using quick = await holding({ max_running_requests: 2, max_queued_requests: 1 });
  await using slow = await holding({ max_running_requests: 4 });
  await using engine = await AsyncSGLang.connect([quick.url, slow.url]);
  const call = engine.generate(Array.from({ length: 20 }, () => "x"));
  // 2 + 1 that may wait, and 4 + 4.
  await until(() => engine.requests.inFlight >= 11);
  for (let i = 0; i < 100; i++) await Promise.resolve();
  assert.deepEqual(engine.requests, { inFlight: 11, queued: 9 });
  held.resolve();
  assert.equal((await call).length, 20);
});

Deno.test("after shutdown calls are refused, and shutdown may come twice", async () => {
  await using server = standIn();
  const engine = await AsyncSGLang.connect(server.url);
  await engine.shutdown();
  await engine.shutdown();
  await assert.rejects(engine.generate("a"), { code: "state" });
  await assert.rejects(engine.pause("abort"), { code: "state" });
});
