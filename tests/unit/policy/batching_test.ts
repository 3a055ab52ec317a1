import assert from "node:assert/strict";
import { AbortedError, TimeoutError } from "../../../src/errors.ts";
import type { PolicyOutput } from "../../../src/policy/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { bytes, wrap } from "./support.ts";

const prompts = (...texts: string[]) => ({ text: texts });
const texts = (output: PolicyOutput) => output.tokens.get("prompt").map((ids) => bytes.decode(ids));

// case 74

Deno.test("callers are served in one pass and get their own rows back", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text", minBatchSize: 4 });
  const outputs = await Promise.all([
    wrapper.call(prompts("a", "b")),
    wrapper.call(prompts("c", "d")),
  ]);
  assert.equal(engine.calls.length, 1);
  assert.deepEqual(outputs.map(texts), [["a", "b"], ["c", "d"]]);
});

// case 75

Deno.test("callers of 1, 3 and 2 rows get their own prompts back", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text", minBatchSize: 5 });
  const outputs = await Promise.all([
    wrapper.call(prompts("a")),
    wrapper.call(prompts("b", "c", "d")),
    wrapper.call(prompts("e", "f")),
  ]);
  assert.deepEqual(outputs.map(texts), [["a"], ["b", "c", "d"], ["e", "f"]]);
  assert.equal(engine.calls.length, 1);
});

Deno.test("callers beyond the maximum go into another batch, samples stay with their prompts", async () => {
  const { wrapper, engine } = wrap({
    inputMode: "text",
    minBatchSize: 2,
    maxBatchSize: 3,
    numSamples: 2,
  });
  const outputs = await Promise.all(
    ["a", "b", "c", "d"].map((text) => wrapper.call(prompts(text))),
  );
  assert.deepEqual(outputs.map(texts), [["a", "a"], ["b", "b"], ["c", "c"], ["d", "d"]]);
  assert.equal(engine.calls.length, 2);
});

// case 76

Deno.test("a lone caller is served after the timeout", async () => {
  const clock = new FakeClock();
  const { wrapper, engine } = wrap({
    inputMode: "text",
    minBatchSize: 4,
    batchingTimeoutMs: 500,
    clock,
  });
  const call = wrapper.call(prompts("a"));
  while (!isWaiting(wrapper.getBatchingState())) await Promise.resolve();
  await clock.advance(499);
  assert.equal(engine.calls.length, 0);
  await clock.advance(1);
  assert.deepEqual(texts(await call), ["a"]);
  assert.equal(clock.pending, 0);
});

Deno.test("a row that fails in a batch is its caller's alone", async () => {
  const { wrapper } = wrap({ inputMode: "text", minBatchSize: 2 }, {
    sample: (text) => {
      if (text === "b") throw new Error("b is too long");
      return bytes.encode("ok");
    },
  });
  const [a, b] = await Promise.allSettled([wrapper.call(prompts("a")), wrapper.call(prompts("b"))]);
  assert.equal(a!.status, "fulfilled");
  assert.match(String((b as PromiseRejectedResult).reason), /b is too long/);
});

// case 77

Deno.test("a failed batch rejects its callers, the next one is served", async () => {
  let isBroken = true;
  const { wrapper, engine } = wrap({ inputMode: "text", minBatchSize: 2 }, {
    before: () => {
      if (isBroken) throw new Error("server is gone");
    },
  });
  const failed = await Promise.allSettled([wrapper.call(prompts("a")), wrapper.call(prompts("b"))]);
  assert.deepEqual(failed.map(({ status }) => status), ["rejected", "rejected"]);
  isBroken = false;
  const outputs = await Promise.all([wrapper.call(prompts("c")), wrapper.call(prompts("d"))]);
  assert.deepEqual(outputs.map(texts), [["c"], ["d"]]);
  assert.deepEqual(engine.calls.at(-1)!.prompts.text, ["c", "d"]);
});

// case 78

Deno.test("cleaning up rejects who waits and leaves nothing behind", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text", minBatchSize: 4 });
  const call = wrapper.call(prompts("a"));
  const rejected = assert.rejects(call, AbortedError);
  while (!isWaiting(wrapper.getBatchingState())) await Promise.resolve();
  await wrapper.cleanupBatching();
  await rejected;
  const state = wrapper.getBatchingState();
  assert.ok(state.batchingEnabled && state.queueSize === 0 && state.pendingFutures === 0);
  assert.equal(engine.calls.length, 0);
});

// case 78

Deno.test("cleaning up with flush serves who waits", async () => {
  const { wrapper } = wrap({ inputMode: "text", minBatchSize: 4 });
  const call = wrapper.call(prompts("a"));
  while (!isWaiting(wrapper.getBatchingState())) await Promise.resolve();
  await wrapper.cleanupBatching({ flush: true });
  assert.deepEqual(texts(await call), ["a"]);
});

function isWaiting(state: { batchingEnabled: boolean; queueSize?: number }): boolean {
  return state.queueSize === 1;
}

// case 79

Deno.test("the state of the queue is told", async () => {
  assert.deepEqual(wrap().wrapper.getBatchingState(), { batchingEnabled: false });
  const { wrapper } = wrap({ inputMode: "text", minBatchSize: 4, maxBatchSize: 8 });
  const call = wrapper.call(prompts("a"));
  while (!isWaiting(wrapper.getBatchingState())) await Promise.resolve();
  assert.deepEqual(wrapper.getBatchingState(), {
    batchingEnabled: true,
    minBatchSize: 4,
    maxBatchSize: 8,
    queueSize: 1,
    pendingFutures: 1,
    lockState: false,
  });
  await wrapper.cleanupBatching({ flush: true });
  await call;
});

Deno.test("a caller that gives up leaves the batch, the others are served", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text", minBatchSize: 2 });
  const controller = new AbortController();
  const left = wrapper.call(prompts("a"), { signal: controller.signal });
  const gone = assert.rejects(left, AbortedError);
  while (!isWaiting(wrapper.getBatchingState())) await Promise.resolve();
  controller.abort();
  await gone;
  const outputs = await Promise.all([wrapper.call(prompts("b")), wrapper.call(prompts("c"))]);
  assert.deepEqual(outputs.map(texts), [["b"], ["c"]]);
  assert.deepEqual(engine.calls[0]!.prompts.text, ["b", "c"]);
});

Deno.test("when every caller gives up the batch that runs is aborted", async () => {
  const aborted = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  const { wrapper } = wrap({ inputMode: "text", maxBatchSize: 4 }, {
    before: ({ options }) => {
      started.resolve();
      return new Promise((_, reject) => {
        options.signal!.addEventListener("abort", () => {
          aborted.resolve();
          reject(options.signal!.reason);
        });
      });
    },
  });
  const controller = new AbortController();
  const call = assert.rejects(
    wrapper.call(prompts("a"), { signal: controller.signal }),
    AbortedError,
  );
  await started.promise;
  controller.abort();
  await call;
  await aborted.promise;
});

Deno.test("an abort reaches the engine and a deadline ends a call that hangs", async () => {
  const hanging = () => {
    const seen = Promise.withResolvers<unknown>();
    const pair = wrap({ inputMode: "text" }, {
      before: ({ options }) =>
        new Promise((_, reject) => {
          options.signal!.addEventListener("abort", () => {
            seen.resolve(options.signal!.reason);
            reject(options.signal!.reason);
          });
        }),
    });
    return { ...pair, seen: seen.promise };
  };
  const controller = new AbortController();
  const aborted = hanging();
  const call = assert.rejects(
    aborted.wrapper.call(prompts("a"), { signal: controller.signal }),
    AbortedError,
  );
  while (aborted.engine.calls.length === 0) await Promise.resolve();
  controller.abort();
  await call;
  await aborted.seen;
  using clock = FakeClock.install();
  const late = hanging();
  const timedOut = assert.rejects(
    late.wrapper.call(prompts("a"), { timeoutMs: 5 }),
    TimeoutError,
  );
  while (late.engine.calls.length === 0) await Promise.resolve();
  await clock.advance(5);
  await timedOut;
  await late.seen;
});

Deno.test("an async iterable is answered in order, several at a time", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text", inplace: false });
  async function* inputs() {
    for (const text of ["a", "b", "c", "d", "e"]) {
      await Promise.resolve();
      yield prompts(text);
    }
  }
  const seen: string[][] = [];
  for await (const output of wrapper.call(inputs(), { concurrency: 2 })) seen.push(texts(output));
  assert.deepEqual(seen, [["a"], ["b"], ["c"], ["d"], ["e"]]);
  assert.equal(engine.calls.length, 5);
});

Deno.test("leaving the loop early cancels what is under way", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text", inplace: false }, {
    before: ({ prompts, options }) =>
      (prompts.text as string[])[0] === "a" ? undefined : new Promise((_, reject) => {
        options.signal!.addEventListener("abort", () => reject(options.signal!.reason));
      }),
  });
  for await (const output of wrapper.map([prompts("a"), prompts("b"), prompts("c")])) {
    assert.deepEqual(texts(output), ["a"]);
    break;
  }
  assert.ok(engine.calls.slice(1).every(({ options }) => options.signal!.aborted));
});

Deno.test("many callers at once without a queue are sent at once", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text" });
  const outputs = await Promise.all(["a", "b", "c"].map((text) => wrapper.call(prompts(text))));
  assert.deepEqual(outputs.map(texts), [["a"], ["b"], ["c"]]);
  assert.deepEqual(engine.calls.map(({ prompts }) => prompts.text), [["a", "b", "c"]]);
});
