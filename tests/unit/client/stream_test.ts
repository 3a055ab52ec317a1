import assert from "node:assert/strict";
import { SGLangClient } from "../../../src/client/mod.ts";
import type { GenerationDelta } from "../../../src/client/types.ts";
import {
  eventStream,
  healthyServer,
  serverInfo,
  standIn,
  type StandInHandler,
} from "../../_support/http_stand_in.ts";
import { FakeClock, turns, until } from "../../_support/clock.ts";

function event(
  step: { text: string; ids: number[]; total: number; logProbs?: number[]; finish?: object },
): object {
  const { text, ids, total, logProbs, finish } = step;
  const tuples = logProbs?.map((logProb, i) => [logProb, ids[i], null]);
  return {
    text,
    output_ids: ids,
    meta_info: {
      id: "r",
      finish_reason: finish ?? null,
      completion_tokens: total,
      weight_version: "1",
      ...tuples && { output_token_logprobs: tuples },
    },
  };
}

const length = { type: "length", length: 3 };

const wire = {
  cumulative: [
    event({ text: "a", ids: [1], total: 1, logProbs: [-1] }),
    event({ text: "abc", ids: [1, 2, 3], total: 3, logProbs: [-1, -2, -3], finish: length }),
  ],
  incremental: [
    event({ text: "a", ids: [1], total: 1, logProbs: [-1] }),
    event({ text: "bc", ids: [2, 3], total: 3, logProbs: [-2, -3], finish: length }),
  ],
};

function streaming(answer: StandInHandler, settings: object = {}) {
  return standIn({
    ...healthyServer,
    "GET /server_info": () => Response.json({ ...serverInfo, ...settings }),
    "POST /generate": answer,
  });
}

for (const [mode, events] of Object.entries(wire)) {
  Deno.test(`a stream of a server in ${mode} mode gives steps and the whole sample`, async () => {
    const settings = { incremental_streaming_output: mode === "incremental" };
    await using server = streaming(() => eventStream(events), settings);
    using client = new SGLangClient({ url: server.url });
    const steps = await Array.fromAsync(client.stream({ text: "x", returnLogProbs: true }));
    assert.deepEqual(steps.map(({ text }) => text), ["a", "bc"]);
    assert.deepEqual(steps.map(({ ids }) => [...ids]), [[1], [2, 3]]);
    assert.deepEqual(steps.map(({ logProbs }) => [...logProbs!]), [[-1], [-2, -3]]);
    assert.equal(steps[0]?.final, null);
    const final = steps[1]!.final!;
    assert.deepEqual(
      [final.text, [...final.ids], [...final.logProbs!]],
      ["abc", [1, 2, 3], [-1, -2, -3]],
    );
    assert.equal(server.requests.at(-1)?.body?.stream, true);
    assert.equal(server.calls.includes("POST /abort_request"), false);
  });
}

Deno.test("ids that are new with text so far, as 0.5.9 sends them, are read", async () => {
  const events = [
    event({ text: "a", ids: [1], total: 1 }),
    event({ text: "ab", ids: [2], total: 2, finish: length }),
  ];
  await using server = streaming(() => eventStream(events), { stream_output: true });
  using client = new SGLangClient({ url: server.url });
  const steps = await Array.fromAsync(client.stream({ text: "x" }));
  assert.deepEqual(steps.map(({ text, ids }) => [text, ...ids]), [["a", 1], ["b", 2]]);
});

Deno.test("a stream in another mode than the server told is an error, not wrong tokens", async () => {
  await using server = streaming(() => eventStream(wire.incremental));
  using client = new SGLangClient({ url: server.url });
  await assert.rejects(Array.fromAsync(client.stream({ text: "x" })), { code: "protocol" });
});

Deno.test("events may be cut anywhere on their way", async () => {
  const whole = new Uint8Array(await eventStream(wire.cumulative).arrayBuffer());
  await using server = streaming(() => {
    let sent = 0;
    return new Response(
      new ReadableStream({
        pull(controller) {
          controller.enqueue(whole.subarray(sent, sent += 7));
          if (sent >= whole.length) controller.close();
        },
      }),
    );
  });
  using client = new SGLangClient({ url: server.url });
  const steps = await Array.fromAsync(client.stream({ text: "x" }));
  assert.equal(steps.at(-1)?.final?.text, "abc");
});

Deno.test("an error inside a stream that began with 200 is thrown with its code", async () => {
  const error = { error: { message: "too long", type: "invalid_request_error", code: 400 } };
  await using server = streaming(() => eventStream([error]));
  using client = new SGLangClient({ url: server.url });
  await assert.rejects(Array.fromAsync(client.stream({ text: "x" })), {
    code: "http",
    status: 400,
    serverMessage: "too long",
  });
  assert.equal(server.calls.includes("POST /abort_request"), false);
});

Deno.test("a stream that the server gives up on is thrown with its status", async () => {
  const finish = { type: "abort", message: "The request queue is full.", status_code: 503 };
  await using server = streaming(() =>
    eventStream([event({ text: "", ids: [], total: 0, finish })])
  );
  using client = new SGLangClient({ url: server.url });
  await assert.rejects(Array.fromAsync(client.stream({ text: "x" })), { status: 503 });
});

Deno.test("an aborted stream ends with what was made", async () => {
  const finish = { type: "abort", message: "Aborted", status_code: null };
  await using server = streaming(() =>
    eventStream([
      event({ text: "a", ids: [1], total: 1 }),
      event({ text: "a", ids: [1], total: 1, finish }),
    ])
  );
  using client = new SGLangClient({ url: server.url });
  const steps = await Array.fromAsync(client.stream({ text: "x" }));
  assert.equal(steps.at(-1)?.final?.finishReason.type, "abort");
  assert.deepEqual(steps.at(-1)?.final?.ids, Int32Array.of(1));
});

Deno.test("leaving the loop aborts the request on the server", async () => {
  const endless: StandInHandler = () =>
    new Response(
      new ReadableStream({
        start(controller) {
          const line = `data: ${JSON.stringify(wire.cumulative[0])}\n\n`;
          controller.enqueue(new TextEncoder().encode(line));
        },
      }),
    );
  await using server = streaming(endless);
  using client = new SGLangClient({ url: server.url });
  const steps: GenerationDelta[] = [];
  for await (const step of client.stream({ text: "x", rid: "r7" })) {
    steps.push(step);
    break;
  }
  assert.equal(steps.length, 1);
  await client[Symbol.asyncDispose]();
  assert.equal(server.calls.at(-1), "POST /abort_request");
  assert.deepEqual(server.requests.at(-1)?.body, { rid: "r7", abort_all: false });
});

Deno.test("a stream whose connection breaks ends when it is aborted there, so that its id is free", async () => {
  const held = Promise.withResolvers<Response>();
  await using server = standIn({
    ...healthyServer,
    "GET /server_info": () => Response.json(serverInfo),
    "POST /generate": () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            controller.error(new Error("the server dies"));
          },
        }),
      ),
    "POST /abort_request": () => held.promise,
  });
  using client = new SGLangClient({ url: server.url, retry: { retries: 0 } });
  let isOver = false;
  const broken = assert.rejects(Array.fromAsync(client.stream({ text: "x", rid: "r7" })), {
    code: "unreachable",
  }).then(() => isOver = true);
  await until(() => server.calls.includes("POST /abort_request"));
  await turns(20);
  assert.equal(isOver, false, "an abort that is still under way would end whoever goes on with r7");
  held.resolve(new Response());
  await broken;
  assert.deepEqual(server.requests.at(-1)?.body, { rid: "r7", abort_all: false });
});

Deno.test("a stream that falls silent reaches its deadline and is aborted", async () => {
  await using server = streaming(() => new Response(new ReadableStream()));
  const clock = new FakeClock();
  using client = new SGLangClient({ url: server.url, clock });
  const stream = client.stream({ text: "x" }, { timeoutMs: 30 });
  const late = assert.rejects(Array.fromAsync(stream), { code: "timeout", phase: "stream" });
  await until(() => server.calls.includes("POST /generate"));
  await clock.pass(late, { ms: 30, isStuck: () => clock.pending > 0 });
  await client[Symbol.asyncDispose]();
  assert.equal(server.calls.at(-1), "POST /abort_request");
});

Deno.test("a stream that ends without a finish reason is an error", async () => {
  await using server = streaming(() => eventStream([wire.cumulative[0]]));
  using client = new SGLangClient({ url: server.url });
  await assert.rejects(
    Array.fromAsync(client.stream({ text: "x" })),
    /ended before the generation did/,
  );
});

Deno.test("a stop string that is cut off at the end changes the final text only", async () => {
  const events = [
    event({ text: "ab", ids: [1], total: 1 }),
    event({ text: "a", ids: [1, 2], total: 2, finish: { type: "stop", matched: "b" } }),
  ];
  await using server = streaming(() => eventStream(events));
  using client = new SGLangClient({ url: server.url });
  const steps = await Array.fromAsync(client.stream({ text: "x" }));
  assert.deepEqual(steps.map(({ text }) => text), ["ab", ""]);
  assert.equal(steps[1]?.final?.text, "a");
});
