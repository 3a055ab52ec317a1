/** What the embedded server refuses; tests/real/embedded compares the words with the real server's. */
import assert from "node:assert/strict";
import { events, get, post, startTiny } from "./_support.ts";
import { until } from "../../_support/clock.ts";

interface Refusal {
  readonly error?: { readonly message: string } | string;
  readonly object?: string;
  readonly message?: string;
}

Deno.test("a bad value is a 400 with the real server's words", async () => {
  await using server = await startTiny();
  const cases: [Record<string, unknown>, string][] = [
    [{}, "Either text, input_ids or input_embeds should be provided."],
    [{ input_ids: [] }, "input_ids cannot be empty."],
    [
      { input_ids: [1], sampling_params: { temperature: -1 } },
      "temperature must be a non-negative finite number, got -1.",
    ],
    [
      { input_ids: Array(3000).fill(1) },
      "The input (3000 tokens) is longer than the model's context length (2048 tokens).",
    ],
    [
      { input_ids: [[1], [2]], rid: ["x", "x"] },
      "Duplicate request IDs detected within the request: ['x']",
    ],
  ];
  for (const [request, message] of cases) {
    const { status, body } = await post<Refusal>(server, "/generate", request);
    assert.equal(status, 400);
    assert.deepEqual(body, { error: { message } });
  }
});

Deno.test("an unknown sampling parameter: 500 in 0.5.16, a 400 that lists the known in 0.5.23", async () => {
  const request = { input_ids: [1], sampling_params: { max_tokens: 1 } };
  await using old = await startTiny();
  const refused = await post(old, "/generate", request);
  assert.deepEqual(refused, { status: 500, body: "Internal Server Error" });
  await using newest = await startTiny({ version: "0.5.23" });
  const { status, body } = await post<Refusal>(newest, "/generate", request);
  assert.equal(status, 400);
  assert.match(String(body.error), /^unknown field `max_tokens`, expected one of `max_new_tokens`/);
});

Deno.test("a stream tells its error in an event, as it has begun with 200", async () => {
  await using server = await startTiny();
  const [event, end] = await events(server, { input_ids: [1], sampling_params: { top_p: 2 } });
  assert.equal(end, "[DONE]");
  assert.deepEqual(event, {
    error: {
      message: "top_p must be in (0, 1], got 2.",
      type: "invalid_request_error",
      code: 400,
      retryable: false,
    },
  });
});

Deno.test("no body, bad JSON and unknown paths get the real server's status and form", async () => {
  await using server = await startTiny();
  for (const body of ["", "{"]) {
    const response = await fetch(`${server.url}/pause_generation`, { method: "POST", body });
    assert.equal(response.status, 400);
    const refusal: Refusal = await response.json();
    assert.equal(refusal.object, "error");
    assert.match(refusal.message!, /^1 validation error:/);
  }
  assert.deepEqual(await get(server, "/nope"), { status: 404, body: { detail: "Not Found" } });
});

Deno.test("an id that is in work is refused until it has ended", async () => {
  await using server = await startTiny({ faults: { stalled: true } });
  const request = { input_ids: [1], rid: "same", sampling_params: { max_new_tokens: 1 } };
  const first = post(server, "/generate", request);
  await until(() => server.stats.waiting > 0);
  assert.equal((await post(server, "/generate", request)).status, 400);
  server.setFaults({ stalled: false });
  assert.equal((await first).status, 200);
  assert.equal((await post(server, "/generate", request)).status, 200);
});

Deno.test("0.5.23 dies of an empty text, as the real one does; 0.5.16 refuses it", async () => {
  await using old = await startTiny();
  assert.equal((await post(old, "/generate", { text: "" })).status, 400);
  await using newest = await startTiny({ version: "0.5.23" });
  await assert.rejects(post(newest, "/generate", { text: "" }), TypeError);
});

Deno.test("the longest prompt is one token shorter than the length that is called allowed", async () => {
  for (const version of ["0.5.16", "0.5.23"] as const) {
    await using server = await startTiny({ version });
    const info = await get<{ max_req_input_len: number }>(server, "/server_info");
    const allowed = info.body.max_req_input_len;
    const ask = (length: number) =>
      post<Refusal>(server, "/generate", {
        input_ids: Array(length).fill(1),
        sampling_params: { max_new_tokens: 1 },
      });
    assert.deepEqual(await ask(allowed), {
      status: 400,
      body: {
        error: {
          message: `Input length (${allowed} tokens) exceeds the maximum allowed length ` +
            `(${allowed} tokens). Use a shorter input or enable --allow-auto-truncate.`,
        },
      },
    });
    assert.equal((await ask(allowed - 1)).status, 200);
  }
});
