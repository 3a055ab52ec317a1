import assert from "node:assert/strict";
import { parseGeneration } from "../../../src/client/generation.ts";
import { answer } from "../../_support/http_stand_in.ts";

const context = { server: "http://s", latencyMs: 5, promptIds: null, wantsLogProbs: false };

Deno.test("an answer becomes typed arrays with everything a trainer needs", () => {
  const parsed = parseGeneration(
    answer([5, 6], {
      output_token_logprobs: [[-0.5, 5, null], [-0.25, 6, null]],
      input_token_logprobs: [[null, 1, null], [-2, 2, null]],
      output_top_logprobs: [[[-0.5, 5, null]], [[-0.25, 6, null], [-1, 7, null]]],
      input_top_logprobs: [null, [[-2, 2, null]]],
      weight_versions: [{ version: "7", start: 0, end: 2 }],
    }),
    { ...context, wantsLogProbs: true },
  );
  assert.deepEqual(parsed.ids, Int32Array.of(5, 6));
  assert.deepEqual(parsed.logProbs, Float32Array.of(-0.5, -0.25));
  assert.deepEqual(parsed.promptLogProbs, Float32Array.of(NaN, -2));
  assert.deepEqual(parsed.topLogProbs?.[1], {
    ids: Int32Array.of(6, 7),
    logProbs: Float32Array.of(-0.25, -1),
  });
  assert.equal(parsed.promptTopLogProbs?.[0], null);
  assert.deepEqual(parsed.weightVersions, [{ version: "7", start: 0, end: 2 }]);
  assert.equal(parsed.serverLatencyMs, 10);
});

// case 63

Deno.test("bare numbers are log-probabilities too", () => {
  const value = answer([5], { output_token_logprobs: [-0.5] });
  assert.deepEqual(parseGeneration(value, context).logProbs, Float32Array.of(-0.5));
});

// case 64

Deno.test("log-probabilities are found at the top level and under meta_info.logprobs", () => {
  const atTop = { ...answer([5]), output_token_logprobs: [[-0.5, 5, null]] };
  assert.deepEqual(parseGeneration(atTop, context).logProbs, Float32Array.of(-0.5));
  const asLogprobs = answer([5], { logprobs: [[-0.25, 5, null]] });
  assert.deepEqual(parseGeneration(asLogprobs, context).logProbs, Float32Array.of(-0.25));
});

// case 65

Deno.test("a different number of log-probabilities and ids is an error with both", () => {
  const value = answer([5, 6], { output_token_logprobs: [[-0.5, 5, null]] });
  assert.throws(() => parseGeneration(value, context), /1 log-probabilities for 2 output ids/);
});

// case 66

Deno.test("a log-probability that is null or not finite is named with its place", () => {
  for (const bad of [null, "x"]) {
    const value = answer([5, 6], { output_token_logprobs: [[-0.5, 5, null], [bad, 6, null]] });
    assert.throws(
      () => parseGeneration(value, context),
      /output_token_logprobs\[1\] is a non-finite log-probability/,
    );
  }
});

// case 69

Deno.test("log-probabilities that were asked for but are missing are an error", () => {
  const asked = { ...context, wantsLogProbs: true };
  assert.throws(
    () => parseGeneration(answer([5]), asked),
    /asked for, but http:\/\/s returned none/,
  );
});

Deno.test("a request aborted in the server's queue is an empty sample, not an error", () => {
  const value = {
    text: "",
    output_ids: [],
    meta_info: {
      id: "r",
      finish_reason: { type: "abort", message: "Abort in waiting queue" },
      weight_version: "default",
      completion_tokens: 0,
    },
  };
  const parsed = parseGeneration(value, { ...context, wantsLogProbs: true });
  assert.deepEqual(parsed.finishReason, {
    type: "abort",
    message: "Abort in waiting queue",
    statusCode: null,
  });
  assert.equal(parsed.logProbs?.length, 0);
  assert.equal(parsed.promptTokens, null);
});

Deno.test("a server without a tokenizer gives no text", () => {
  const { text: _, ...withoutText } = answer([5]);
  assert.equal(parseGeneration(withoutText, context).text, null);
});

Deno.test("an answer of another form is a protocol error that names the place", () => {
  const isProtocol = (pattern: RegExp) => (error: Error & { code?: string }) =>
    error.code === "protocol" && pattern.test(error.message);
  assert.throws(() => parseGeneration({ text: "x" }, context), isProtocol(/meta_info/));
  assert.throws(
    () => parseGeneration({ ...answer([5]), output_ids: ["a"] }, context),
    isProtocol(/output_ids\[0\]/),
  );
});

Deno.test("log-probabilities of other tokens than the sampled ones are refused with both ids", () => {
  const value = answer([5, 6], { output_token_logprobs: [[-0.5, 5, null], [-0.25, 7, null]] });
  assert.throws(
    () => parseGeneration(value, context),
    /output_token_logprobs\[1\].*of token 7, but output_ids has 6/,
  );
});

Deno.test("columns that became arrays are not kept twice; everything else of meta_info is", () => {
  const columns = {
    output_token_logprobs: [[-0.5, 5, null], [-0.25, 6, null]],
    input_token_logprobs: [[null, 1, null], [-2, 2, null]],
    output_top_logprobs: [[[-0.5, 5, null]], [[-0.25, 6, null]]],
    input_top_logprobs: [null, [[-2, 2, null]]],
    output_token_ids_logprobs: [[[-3, 9, null]], [[-3, 9, null]]],
    input_token_ids_logprobs: [null, [[-3, 9, null]]],
  };
  const { meta } = parseGeneration(answer([5, 6], { ...columns, dp_rank: 3, own: [1] }), context);
  assert.deepEqual(Object.keys(meta).filter((name) => name in columns), []);
  assert.deepEqual([meta.dp_rank, meta.own, meta.prompt_tokens], [3, [1], 3]);
});

Deno.test("a column with the texts of the tokens stays, since they are nowhere else", () => {
  const told = {
    output_token_logprobs: [[-0.5, 5, "a"]],
    output_top_logprobs: [[[-0.5, 5, "a"]]],
    input_token_logprobs: [[null, 1, null], [-2, 2, "b"]],
  };
  const { meta } = parseGeneration(answer([5], told), context);
  for (const [name, column] of Object.entries(told)) assert.deepEqual(meta[name], column);
});
