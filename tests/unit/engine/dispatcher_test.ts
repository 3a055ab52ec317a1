import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { UnreachableError } from "../../../src/errors.ts";
import {
  answer,
  eventStream,
  healthyServer,
  type SeenRequest,
  standIn,
} from "../../_support/http_stand_in.ts";
import { FakeClock } from "../../_support/clock.ts";

const options = { vocabSize: 1000, retry: { retries: 0 } };

/** A server that holds every generation until `release`, and counts how many it has at once. */
function holding() {
  const gate = Promise.withResolvers<void>();
  const seen = { now: 0, most: 0, order: [] as unknown[] };
  const arrivals: (() => void)[] = [];
  const server = standIn({
    ...healthyServer,
    "POST /generate": async ({ body }) => {
      seen.order.push(body?.text);
      seen.most = Math.max(seen.most, ++seen.now);
      arrivals.shift()?.();
      await gate.promise;
      seen.now--;
      return Response.json(answer([1]));
    },
  });
  const arrived = (count: number) =>
    Promise.all(Array.from({ length: count }, () => new Promise<void>((ok) => arrivals.push(ok))));
  return { server, seen, arrived, release: () => gate.resolve() };
}

const texts = (count: number) => Array.from({ length: count }, (_, i) => `${i}`);

Deno.test("requests of a batch run at once, up to the limit, in order, shared between calls", async () => {
  const { server, seen, arrived, release } = holding();
  await using _server = server;
  await using engine = await AsyncSGLang.connect(server.url, { ...options, maxConcurrency: 4 });
  const four = arrived(4);
  const calls = [engine.generate(texts(5)), engine.generate(["last"])];
  await four;
  assert.deepEqual(engine.requests, { inFlight: 4, queued: 2 });
  release();
  await Promise.all(calls);
  assert.equal(seen.most, 4);
  // Which of those in flight arrives first is up to the network.
  assert.deepEqual(seen.order.slice(0, 4).sort(), ["0", "1", "2", "3"]);
  assert.deepEqual(seen.order.slice(4).sort(), ["4", "last"]);
  assert.deepEqual(engine.requests, { inFlight: 0, queued: 0 });
});

Deno.test("cancelling ends what is queued here and what runs on the server", async () => {
  const { server, seen, arrived, release } = holding();
  await using _server = server;
  await using engine = await AsyncSGLang.connect(server.url, { ...options, maxConcurrency: 2 });
  const caller = new AbortController();
  const two = arrived(2);
  const call = engine.generate(texts(6), { signal: caller.signal });
  await two;
  caller.abort("enough");
  await assert.rejects(call, { code: "aborted", cause: "enough" });
  assert.deepEqual(engine.requests, { inFlight: 0, queued: 0 });
  // The aborts go on when the call has ended, until then.
  await engine.shutdown();
  const aborts = server.calls.filter((line) => line === "POST /abort_request");
  assert.equal(aborts.length, 2);
  assert.equal(seen.order.length, 2);
  release();
});

Deno.test("the deadline of a call covers its queue", async () => {
  const { server, arrived, release } = holding();
  await using _server = server;
  const clock = new FakeClock();
  await using engine = await AsyncSGLang.connect(server.url, {
    ...options,
    maxConcurrency: 1,
    clock,
  });
  const one = arrived(1);
  const late = assert.rejects(engine.generate(texts(3), { timeoutMs: 40 }), {
    code: "timeout",
    phase: "generate",
    message: /1 requests in flight, 2 queued/,
  });
  await one;
  await clock.advance(40);
  await late;
  release();
});

Deno.test("a server that fails ends the other requests of its call, and its error is thrown", async () => {
  const held = Promise.withResolvers<Response>();
  await using server = standIn({
    ...healthyServer,
    "POST /generate": ({ body }) =>
      body?.text === "1" ? Response.json({ error: "bad" }, { status: 500 }) : held.promise,
  });
  await using engine = await AsyncSGLang.connect(server.url, options);
  await assert.rejects(engine.generate(texts(3)), { code: "http", serverMessage: "bad" });
  held.resolve(new Response(null));
});

Deno.test("an error thrown by onProgress ends the call and reaches the caller", async () => {
  await using server = standIn(healthyServer);
  await using engine = await AsyncSGLang.connect(server.url, options);
  const onProgress = () => {
    throw new RangeError("mine");
  };
  await assert.rejects(engine.generate(["a"], { onProgress }), RangeError);
});

Deno.test("aborting by id ends queued requests as empty samples and running ones on the server", async () => {
  const { server, arrived, release } = holding();
  await using _server = server;
  await using engine = await AsyncSGLang.connect(server.url, { ...options, maxConcurrency: 1 });
  const one = arrived(1);
  const call = engine.generate(texts(3), { rids: ["a", "b", "c"], returnLogProbs: false });
  await one;
  const abort = engine.abort(["b"]);
  await abort;
  release();
  const samples = await call;
  assert.deepEqual(samples.map(({ finishReason }) => finishReason.type), [
    "length",
    "abort",
    "length",
  ]);
  assert.equal(samples[1]?.ids.length, 0);
  const aborted = server.requests.filter(({ path }) => path === "/abort_request");
  assert.deepEqual(aborted.map(({ body }) => body?.rid), ["b"]);
});

Deno.test("aborting all ends queued streams too", async () => {
  const { server, arrived, release } = holding();
  await using _server = server;
  await using engine = await AsyncSGLang.connect(server.url, { ...options, maxConcurrency: 1 });
  const one = arrived(1);
  const call = engine.generate("x");
  await one;
  const stream = Array.fromAsync(engine.stream("y"));
  while (engine.requests.queued === 0) await Promise.resolve();
  const abort = engine.abort("all");
  const steps = await stream;
  assert.equal(steps.at(-1)?.final?.finishReason.type, "abort");
  release();
  await call;
  await abort;
});

Deno.test("what waits may be aborted twice at once", async () => {
  const { server, arrived, release } = holding();
  await using _server = server;
  await using engine = await AsyncSGLang.connect(server.url, { ...options, maxConcurrency: 1 });
  const one = arrived(1);
  const first = engine.generate("x");
  await one;
  const waiting = engine.generate("y");
  while (engine.requests.queued === 0) await Promise.resolve();
  const aborts = [engine.abort("all"), engine.abort("all")];
  assert.equal((await waiting).finishReason.type, "abort");
  release();
  await Promise.all([first, ...aborts]);
});

Deno.test("shutdown ends what runs with a state error", async () => {
  const { server, arrived, release } = holding();
  await using _server = server;
  const engine = await AsyncSGLang.connect(server.url, options);
  const one = arrived(1);
  const call = engine.generate("x");
  await one;
  const rejected = assert.rejects(call, { code: "state", message: /shut down/ });
  await engine.shutdown();
  await rejected;
  release();
});

Deno.test("without a router requests spread over the servers", async () => {
  await using one = standIn();
  await using two = standIn();
  await using engine = await AsyncSGLang.connect([one.url, two.url], options);
  const samples = await engine.generate(texts(6));
  const onOne = samples.filter(({ server }) => server === one.url).length;
  assert.equal(onOne, 3);
});

Deno.test("a request to a server that is gone goes to another one", async () => {
  const gone = standIn();
  await using there = standIn();
  await using engine = await AsyncSGLang.connect([gone.url, there.url], options);
  await gone[Symbol.asyncDispose]();
  const samples = await engine.generate(texts(4));
  assert.deepEqual(new Set(samples.map(({ server }) => server)), new Set([there.url]));
});

Deno.test("when all servers are gone the error says so", async () => {
  const gone = standIn();
  await using engine = await AsyncSGLang.connect(gone.url, options);
  await gone[Symbol.asyncDispose]();
  await assert.rejects(engine.generate("a"), UnreachableError);
});

function routerBefore(worker: { url: string }) {
  return standIn({
    ...healthyServer,
    "GET /server_info": () => new Response(null, { status: 404 }),
    "GET /workers": () =>
      Response.json({ workers: [{ id: "w", url: worker.url, is_healthy: true }] }),
  });
}

const generations = ({ requests }: { requests: readonly SeenRequest[] }) =>
  requests.filter(({ path }) => path === "/generate");

Deno.test("data goes through the router, but what the router would lose goes to a server", async () => {
  await using worker = standIn();
  await using router = routerBefore(worker);
  await using engine = await AsyncSGLang.connect(router.url, options);
  await engine.generate("a", { topK: 3, seed: 1 });
  assert.equal(generations(router).length, 1);
  const lost = [
    { stopRegex: "a" },
    { logitBias: { 5: 1 } },
    { structuralTag: "t" },
    { customParams: { a: 1 } },
    { streamInterval: 2 },
    { spacesBetweenSpecialTokens: false },
    { returnPromptIds: true },
    { sessionId: "s" },
    { extra: { cache_salt: "s" } },
  ];
  for (const fields of lost) await engine.generate("a", fields);
  assert.equal(generations(router).length, 1);
  assert.equal(generations(worker).length, lost.length);
});

Deno.test("behind a router control goes to every server, and so does the abort of a stream", async () => {
  await using worker = standIn({
    ...healthyServer,
    "POST /pause_generation": () => Response.json({ status: "ok" }),
  });
  const step = answer([1], { finish_reason: null });
  await using router = standIn({
    ...healthyServer,
    "POST /generate": () => eventStream([step, step]),
  });
  const target = { router: router.url, workers: [worker.url] };
  await using engine = await AsyncSGLang.connect(target, options);
  await engine.pause("abort");
  for await (const _ of engine.stream("x", { rids: ["r1"] })) break;
  await engine.shutdown();
  assert.deepEqual(worker.calls.slice(-2), ["POST /pause_generation", "POST /abort_request"]);
  assert.equal(worker.requests.at(-1)?.body?.rid, "r1");
  assert.deepEqual(router.calls.filter((line) => /pause|abort/.test(line)), []);
});

Deno.test("a control call that fails on several servers names how many, and the first", async () => {
  const failing = {
    ...healthyServer,
    "POST /pause_generation": () => Response.json({ message: "no" }, { status: 500 }),
  };
  await using one = standIn(failing);
  await using two = standIn(failing);
  await using engine = await AsyncSGLang.connect([one.url, two.url], options);
  await assert.rejects(engine.pause("abort"), {
    code: "http",
    message: /failed on 2 of 2 servers/,
  });
});
