import assert from "node:assert/strict";
import fc from "fast-check";
import { SGLangClient } from "../../../src/client/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import type { MemoryTag } from "../../../src/client/memory.ts";
import type { SGLangError } from "../../../src/errors.ts";
import { healthyServer, standIn, type StandInHandler } from "../../_support/http_stand_in.ts";

/** A server that knows what would end it, as SGLang's scheduler does. */
function mortal() {
  const state = { died: "", requests: 0, paused: false, released: new Set<string>() };
  const ok = () => Response.json({ success: true });
  const tagsOf = (body: Readonly<Record<string, unknown>> | undefined) =>
    (body?.tags ?? ["kv_cache", "weights", "cuda_graph"]) as string[];
  const handlers: Record<string, StandInHandler> = {
    ...healthyServer,
    "GET /v1/loads": () => {
      const { requests } = state;
      // What was aborted is gone a moment later.
      if (state.paused) state.requests = 0;
      return Response.json({ loads: [{ num_running_reqs: requests, num_waiting_reqs: 0 }] });
    },
    "POST /pause_generation": () => {
      state.paused = true;
      return ok();
    },
    "POST /continue_generation": () => {
      if (state.released.size > 0) state.died = "ran without its memory";
      state.paused = false;
      return ok();
    },
    "POST /release_memory_occupation": ({ body }) => {
      if (state.requests > 0) state.died = "released while requests were there";
      for (const tag of tagsOf(body)) {
        if (state.released.has(tag)) state.died = `released ${tag} twice`;
        state.released.add(tag);
      }
      return ok();
    },
    "POST /resume_memory_occupation": ({ body }) => {
      for (const tag of tagsOf(body)) {
        if (!state.released.delete(tag)) state.died = `${tag} was not released`;
      }
      return ok();
    },
  };
  return { state, server: standIn(handlers) };
}

const tag = fc.constantFrom<MemoryTag>("kv_cache", "weights", "cuda_graph");
const tags = fc.option(fc.uniqueArray(tag, { minLength: 1 }), { nil: undefined });

Deno.test("no order of memory calls of one client ends a server", async () => {
  const { state, server } = mortal();
  await using _server = server;
  const step = fc.oneof(
    fc.record({ call: fc.constantFrom("release", "take back"), tags }),
    fc.record({ call: fc.constantFrom("pause", "request", "go on"), tags: fc.constant(undefined) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
      Object.assign(state, { died: "", requests: 0, paused: false, released: new Set() });
      await using client = new SGLangClient({ url: server.url });
      for (const { call, tags } of steps) {
        if (call === "request" && !state.paused) state.requests++;
        if (call === "pause") await client.pause("abort");
        const done = call === "go on"
          ? client.resume()
          : call === "release"
          ? client.releaseMemoryOccupation({ tags })
          : call === "take back"
          ? client.resumeMemoryOccupation({ tags })
          : Promise.resolve();
        await done.catch((error: SGLangError) => assert.equal(error.code, "state"));
        assert.equal(state.died, "");
        assert.deepEqual(new Set(client.releasedMemory), state.released);
      }
    }),
    { numRuns: 60 },
  );
});

Deno.test("an engine sleeps and wakes in the order that servers survive", async () => {
  const { state, server } = mortal();
  await using _server = server;
  await using engine = await AsyncSGLang.connect(server.url);
  state.requests = 2;
  await engine.sleep();
  assert.equal(engine.isAsleep, true);
  assert.equal(state.released.size, 3);
  await assert.rejects(engine.generate("x"), { code: "paused" });
  await assert.rejects(engine.sleep(), { code: "state" });
  await assert.rejects(engine.wake(), { code: "validation" });
  const order: string[] = [];
  await engine.wake({
    updateWeights: () => {
      order.push(`weights, ${state.released.size} released, paused: ${state.paused}`);
      return Promise.resolve();
    },
  });
  assert.deepEqual(order, ["weights, 0 released, paused: true"]);
  assert.equal(state.paused, false);
  assert.equal(state.died, "");
  await engine.generate("x");
  await assert.rejects(engine.wake(), { code: "state" });
});
