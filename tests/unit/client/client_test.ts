import assert from "node:assert/strict";
import { SGLangClient } from "../../../src/client/mod.ts";
import type { HttpError, SGLangError, UnreachableError } from "../../../src/errors.ts";
import type { Clock } from "../../../src/internal/clock.ts";
import {
  answer,
  healthyServer,
  modelInfo,
  serverInfo,
  standIn,
  vocabularyRefusal,
} from "../../_support/http_stand_in.ts";
import { FakeClock, until } from "../../_support/clock.ts";

/** A clock on which pauses pass at once and deadlines never come. */
function skippingClock(pauses: number[]): Clock {
  return {
    now: () => 0,
    schedule(delayMs, callback) {
      if (delayMs > 10_000) return () => {};
      pauses.push(delayMs);
      queueMicrotask(callback);
      return () => {};
    },
  };
}

const busy = () => Response.json({ message: "The request queue is full." }, { status: 503 });

// case 11

Deno.test("two refusals with 503 and two retries succeed on the third request", async () => {
  let left = 2;
  await using server = standIn({
    "POST /generate": () => left-- > 0 ? busy() : Response.json(answer()),
  });
  const pauses: number[] = [];
  using client = new SGLangClient({
    url: server.url,
    clock: skippingClock(pauses),
    retry: { retries: 2, initialDelayMs: 100, jitter: 0 },
  });
  assert.deepEqual((await client.generate({ text: "a" })).ids, Int32Array.of(5, 6));
  assert.equal(server.requests.length, 3);
  assert.deepEqual(pauses, [100, 200]);
});

// case 11

Deno.test("three refusals end after exactly three requests", async () => {
  await using server = standIn({ "POST /generate": busy });
  using client = new SGLangClient({ url: server.url, clock: skippingClock([]) });
  await assert.rejects(client.generate({ text: "a" }), { code: "http", status: 503 });
  assert.equal(server.requests.length, 3);
});

// case 12

Deno.test("a retry count that is no count is refused by name", () => {
  const retries = "abc" as unknown as number;
  assert.throws(
    () => new SGLangClient({ url: "http://s", retry: { retries } }),
    /retry\.retries must be an integer of at least 0, got abc/,
  );
});

Deno.test("a refusal that would come again is not sent again", async () => {
  await using server = standIn({
    "POST /generate": () => Response.json({ error: { message: "too long" } }, { status: 400 }),
  });
  using client = new SGLangClient({ url: server.url, clock: skippingClock([]) });
  await assert.rejects(client.generate({ text: "a" }), (error: HttpError) => {
    assert.equal(error.serverMessage, "too long");
    assert.equal(error.endpoint, "POST /generate");
    return true;
  });
  assert.equal(server.requests.length, 1);
});

const forms: [string, BodyInit | null, string][] = [
  ["error as text", `{"error":"unknown field"}`, "unknown field"],
  ["error with message", `{"error":{"message":"bad"}}`, "bad"],
  ["message", `{"object":"error","message":"worse","code":400}`, "worse"],
  ["detail", `{"detail":"Not Found"}`, "Not Found"],
  ["plain text", "Internal Server Error", "Internal Server Error"],
  ["nothing", null, ""],
];
for (const [form, body, serverMessage] of forms) {
  Deno.test(`the server's words are read from an error of the form: ${form}`, async () => {
    await using server = standIn({ "POST /tokenize": () => new Response(body, { status: 400 }) });
    using client = new SGLangClient({ url: server.url });
    await assert.rejects(client.tokenize("a"), { code: "http", status: 400, serverMessage });
  });
}

Deno.test("an address where nobody listens is unreachable", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  using client = new SGLangClient({ url: `http://127.0.0.1:${port}/`, retry: { retries: 0 } });
  await assert.rejects(client.modelInfo(), (error: UnreachableError) => {
    assert.equal(error.code, "unreachable");
    assert.equal(error.url, `http://127.0.0.1:${port}`);
    assert.match(error.message, /Cannot connect to SGLang server at .*connection refused/);
    return true;
  });
  assert.equal(await client.health(), false);
  assert.equal(await client.flushCache(), false);
});

Deno.test("a connection that is cut while the answer comes is unreachable, and aborted", async () => {
  await using server = standIn({
    ...healthyServer,
    "POST /generate": () => {
      const cut = new ReadableStream({
        pull(controller) {
          controller.enqueue(new TextEncoder().encode(`{"text":`));
          controller.error(new Error("cut"));
        },
      });
      return new Response(cut, { headers: { "content-length": "500" } });
    },
  });
  using client = new SGLangClient({ url: server.url, retry: { retries: 0 } });
  await assert.rejects(client.generate({ text: "a", rid: "r1" }), { code: "unreachable" });
  assert.deepEqual(server.calls, ["POST /generate", "POST /abort_request"]);
  assert.equal(server.requests[1]?.body?.rid, "r1");
});

Deno.test({
  name: "a denied permission names the flag to add",
  permissions: { net: false },
  async fn() {
    using client = new SGLangClient({ url: "http://127.0.0.1:45678" });
    await assert.rejects(client.modelInfo(), {
      code: "permission",
      flag: "--allow-net=127.0.0.1:45678",
    });
    await assert.rejects(client.health(), { code: "permission" });
  },
});

Deno.test("a deadline names the phase, the peer and the hint, and aborts on the server", async () => {
  const held = Promise.withResolvers<Response>();
  await using server = standIn({ ...healthyServer, "POST /generate": () => held.promise });
  const clock = new FakeClock();
  using client = new SGLangClient({ url: server.url, clock });
  const late = assert.rejects(
    client.generate({ text: "a" }, { timeoutMs: 20 }),
    (error: SGLangError) => {
      assert.equal(error.code, "timeout");
      assert.match(error.message, /phase "generate" after 20 ms.*paused server/);
      return true;
    },
  );
  await until(() => server.calls.includes("POST /generate"));
  await clock.advance(20);
  await late;
  await client[Symbol.asyncDispose]();
  assert.deepEqual(server.calls, ["POST /generate", "POST /abort_request"]);
  held.resolve(new Response(null));
});

Deno.test("a generation that waits for a server we paused says so", async () => {
  const held = Promise.withResolvers<Response>();
  await using server = standIn({
    ...healthyServer,
    "POST /pause_generation": () => Response.json({ status: "ok" }),
    "POST /generate": () => held.promise,
  });
  const clock = new FakeClock();
  using client = new SGLangClient({ url: server.url, clock });
  await client.pause("retract");
  assert.deepEqual(server.requests[0]?.body, { mode: "retract" });
  const late = assert.rejects(client.generate({ text: "a" }, { timeoutMs: 20 }), {
    code: "paused",
  });
  await until(() => server.calls.includes("POST /generate"));
  await clock.advance(20);
  await late;
  await client[Symbol.asyncDispose]();
  held.resolve(new Response(null));
});

Deno.test("the caller's signal aborts on the server too and its reason is the cause", async () => {
  const held = Promise.withResolvers<Response>();
  const caller = new AbortController();
  await using server = standIn({
    ...healthyServer,
    "POST /generate": () => {
      caller.abort("enough");
      return held.promise;
    },
  });
  using client = new SGLangClient({ url: server.url });
  const call = client.generate({ text: "a" }, { signal: caller.signal });
  await assert.rejects(call, { code: "aborted", cause: "enough" });
  await client[Symbol.asyncDispose]();
  assert.equal(server.calls.at(-1), "POST /abort_request");
  held.resolve(new Response(null));
});

Deno.test("a control call on a dying connection is sent once, a question is asked again", async () => {
  const bodies: string[] = [];
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async () => {
    for await (const connection of listener) {
      const buffer = new Uint8Array(4096);
      const length = await connection.read(buffer) ?? 0;
      bodies.push(new TextDecoder().decode(buffer.subarray(0, length)).split(" ")[1]!);
      connection.close();
    }
  })();
  using client = new SGLangClient({
    url: `http://127.0.0.1:${listener.addr.port}`,
    clock: skippingClock([]),
  });
  await assert.rejects(client.destroyWeightsUpdateGroup(), { code: "unreachable" });
  await assert.rejects(client.modelInfo(), { code: "unreachable" });
  listener.close();
  await serving;
  assert.deepEqual(bodies, ["/destroy_weights_update_group", ...Array(3).fill("/model_info")]);
});

Deno.test("ids are checked against the vocabulary size, which the server is asked once", async () => {
  await using server = standIn({
    ...healthyServer,
    "POST /generate": ({ body }) =>
      (body?.sampling_params as { logit_bias?: object }).logit_bias === undefined
        ? Response.json(answer())
        : vocabularyRefusal(100),
  });
  using client = new SGLangClient({ url: server.url });
  await client.generate({ inputIds: [99] });
  await assert.rejects(
    client.generate({ inputIds: [1, 100] }),
    /inputIds\[1\] must be a token id from 0 to 99, got 100/,
  );
  await assert.rejects(client.generate({ inputIds: Int32Array.of(-1) }), { code: "validation" });
  await assert.rejects(client.generate({ inputIds: [] }), /at least one token id/);
  assert.equal(server.requests.length, 2);
  assert.deepEqual(server.requests[1]?.body?.input_ids, [99]);
});

Deno.test("a given vocabulary size is not asked for", async () => {
  await using server = standIn();
  using client = new SGLangClient({ url: server.url, vocabSize: 10 });
  await assert.rejects(client.generate({ inputIds: [10] }), { code: "validation" });
  assert.equal(server.requests.length, 0);
});

Deno.test("a field that the server's version would ignore is refused", async () => {
  await using server = standIn({
    ...healthyServer,
    "GET /server_info": () => Response.json({ ...serverInfo, version: "0.5.9" }),
  });
  using client = new SGLangClient({ url: server.url });
  await assert.rejects(client.generate({ text: "a", returnPromptIds: true }), {
    code: "unsupported",
    message: "The server runs SGLang 0.5.9, and return_prompt_token_ids needs 0.5.13 or newer",
  });
});

Deno.test("a seed that the server would ignore is refused", async () => {
  await using server = standIn({
    ...healthyServer,
    "GET /server_info": () =>
      Response.json({ ...serverInfo, enable_deterministic_inference: false }),
  });
  using client = new SGLangClient({ url: server.url });
  await assert.rejects(client.generate({ text: "a", samplingParams: { samplingSeed: 1 } }), {
    code: "unsupported",
    message: /sampling_seed needs --enable-deterministic-inference/,
  });
  assert.equal(server.calls.includes("POST /generate"), false);
});

Deno.test("chosen ids' log-probabilities, which end servers before 0.5.22, are refused there", async () => {
  await using server = standIn();
  using client = new SGLangClient({ url: server.url, vocabSize: 100 });
  const request = { text: "a", samplingParams: { logprob_token_ids: [5] } };
  await assert.rejects(client.generate(request), { code: "unsupported" });
  assert.equal(server.calls.includes("POST /generate"), false);
});

// case 9

Deno.test("log-probabilities are asked for at the top level of the body", async () => {
  await using server = standIn({
    ...healthyServer,
    "POST /generate": () => Response.json(answer([5], { output_token_logprobs: [[-1, 5, null]] })),
  });
  using client = new SGLangClient({ url: server.url });
  await client.generate({ text: "a", returnLogProbs: true, rid: "r" });
  assert.deepEqual(server.requests[0]?.body, {
    text: "a",
    return_logprob: true,
    rid: "r",
    sampling_params: {
      temperature: 1,
      top_p: 1,
      max_new_tokens: 128,
      frequency_penalty: 0,
      presence_penalty: 0,
      repetition_penalty: 1,
    },
  });
});

Deno.test("an empty text or no ids, which end servers, are refused", async () => {
  await using server = standIn(healthyServer);
  using client = new SGLangClient({ url: server.url });
  for (const request of [{ text: "" }, { inputIds: [] }]) {
    await assert.rejects(client.generate(request), { code: "validation" });
  }
  assert.equal(server.requests.filter(({ path }) => path === "/generate").length, 0);
});

Deno.test("n samples come as a list from generateMany; generate refuses n above 1", async () => {
  await using server = standIn({
    "POST /generate": () => Response.json([answer([1]), answer([2])]),
  });
  using client = new SGLangClient({ url: server.url });
  const samples = await client.generateMany({ text: "a", samplingParams: { n: 2 } });
  assert.deepEqual(samples.map(({ ids }) => ids[0]), [1, 2]);
  await assert.rejects(client.generate({ text: "a", samplingParams: { n: 2 } }), /generateMany/);
  await assert.rejects(client.generateMany({ text: "a", samplingParams: { n: 3 } }), {
    code: "protocol",
  });
});

Deno.test("an unknown field of a request is refused with the nearest", async () => {
  using client = new SGLangClient({ url: "http://127.0.0.1:1" });
  const request = { text: "a", returnLogprob: true };
  await assert.rejects(client.generate(request), /Unknown field "returnLogprob".*"returnLogProbs"/);
  await assert.rejects(client.generate({ text: "a", extra: { stream: true } }), /"stream"/);
});

Deno.test("an answer of another form than expected is a protocol error that names the place", async () => {
  await using server = standIn({
    "GET /server_info": () => Response.json({ ...serverInfo, tp_size: "two" }),
    "GET /model_info": () => new Response("<html>"),
  });
  using client = new SGLangClient({ url: server.url });
  await assert.rejects(client.serverInfo(), /GET \/server_info is not as expected at "tp_size"/);
  await assert.rejects(client.modelInfo(), { code: "protocol" });
});

Deno.test("JSON is read whatever its content type", async () => {
  const text = JSON.stringify(modelInfo);
  await using server = standIn({ "GET /model_info": () => new Response(text) });
  using client = new SGLangClient({ url: server.url });
  assert.equal((await client.modelInfo()).modelType, "qwen2");
});

Deno.test("an address must be an http address", () => {
  assert.throws(() => new SGLangClient({ url: "127.0.0.1:30000" }), /must be an http or https URL/);
});
