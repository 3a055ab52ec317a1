import assert from "node:assert/strict";
import { HttpError, ProtocolError, TimeoutError, UnreachableError } from "../../../src/errors.ts";
import { getOpenPort } from "../../../src/process/mod.ts";
import { SGLangRouter } from "../../../src/router/mod.ts";
import { FakeClock, openCalls } from "../../_support/clock.ts";

/** Runs a router that answers as it is told, for faults that the real one does not show. */
async function withAnswers(
  answer: (request: Request) => Response | Promise<Response>,
  work: (router: SGLangRouter) => Promise<void>,
): Promise<void> {
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, answer);
  await work(SGLangRouter.connect(`http://127.0.0.1:${server.addr.port}/`, { apiKey: "secret" }));
}

Deno.test("an answer that is not the router's is a protocol error", () =>
  withAnswers(() => new Response("hello"), async (router) => {
    await assert.rejects(router.workers(), ProtocolError);
  }));

Deno.test("a refused key is told without the key", () =>
  withAnswers(
    (request) => {
      assert.equal(request.headers.get("authorization"), "Bearer secret");
      return new Response(null, { status: 401 });
    },
    async (router) => {
      await assert.rejects(router.workers(), (error) => {
        assert.ok(error instanceof HttpError);
        assert.equal(error.status, 401);
        assert.match(error.message, /GET \/workers with 401: it wants a key, give `apiKey`/);
        assert.ok(!error.message.includes("secret"));
        return true;
      });
    },
  ));

Deno.test("a server that never becomes healthy is taken out again, and the deadline names it", async () => {
  const calls: string[] = [];
  const listed = { workers: [{ id: "w1", url: "http://a:1", is_healthy: false }] };
  using clock = FakeClock.install();
  using open = openCalls();
  await withAnswers((request) => {
    calls.push(`${request.method} ${new URL(request.url).pathname}`);
    if (request.method === "POST") return Response.json({ worker_id: "w1" }, { status: 202 });
    if (request.method === "DELETE") return new Response(null, { status: 202 });
    return Response.json(listed);
  }, async (router) => {
    const late = assert.rejects(router.addWorker("http://a:1", { timeoutMs: 1000 }), (error) => {
      assert.ok(error instanceof TimeoutError);
      assert.match(error.message, /add http:\/\/a:1 to the router/);
      return true;
    });
    await clock.pass(late, { ms: 500, isStuck: () => open.count === 0 });
  });
  assert.equal(calls[0], "POST /workers");
  assert.equal(calls.at(-1), "DELETE /workers/w1");
});

Deno.test("a router that keeps a removed server is a timeout, not a hang", () => {
  const listed = { workers: [{ id: "w1", url: "http://a:1", is_healthy: true }] };
  return withAnswers(
    (request) =>
      request.method === "DELETE" ? new Response(null, { status: 202 }) : Response.json(listed),
    async (router) => {
      using clock = FakeClock.install();
      using open = openCalls();
      const late = assert.rejects(router.removeWorker("w1", { timeoutMs: 1000 }), TimeoutError);
      await clock.pass(late, { ms: 500, isStuck: () => open.count === 0 });
    },
  );
});

Deno.test("a router that does not answer in time, or at all, is told", async () => {
  const held = Promise.withResolvers<Response>();
  using clock = FakeClock.install();
  const asked = Promise.withResolvers<void>();
  const hang = () => {
    asked.resolve();
    return held.promise;
  };
  await withAnswers(hang, async (router) => {
    const late = assert.rejects(router.isReady({ timeoutMs: 100 }), TimeoutError);
    await asked.promise;
    await clock.advance(100);
    await late;
    held.resolve(new Response());
  });
  const nobody = SGLangRouter.connect(`http://127.0.0.1:${getOpenPort()}`);
  await assert.rejects(nobody.workers(), UnreachableError);
});

Deno.test({
  name: "without permission to connect the error names the flag",
  permissions: { net: false },
  async fn() {
    await assert.rejects(SGLangRouter.connect("http://127.0.0.1:33700").workers(), {
      name: "PermissionError",
      flag: "--allow-net=127.0.0.1:33700",
    });
  },
});

Deno.test("stopping a router that is not ours sends nothing", async () => {
  await using router = SGLangRouter.connect("http://127.0.0.1:33701");
  assert.equal(router.pid, undefined);
  assert.equal(router.exited, undefined);
  await router.stop();
});
