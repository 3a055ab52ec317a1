import assert from "node:assert/strict";
import fc from "fast-check";
import { convertSamplingParams, mergeSampling } from "../../../src/client/sampling_params.ts";
import type { SamplingInput } from "../../../src/client/types.ts";

const defaults = {
  temperature: 1,
  top_p: 1,
  max_new_tokens: 128,
  frequency_penalty: 0,
  presence_penalty: 0,
  repetition_penalty: 1,
};

function wire(input: SamplingInput): Readonly<Record<string, unknown>> {
  return convertSamplingParams(input).samplingParams;
}

function refuses(input: Record<string, unknown>, pattern: RegExp): void {
  assert.throws(
    () => convertSamplingParams(input as SamplingInput),
    (error: Error & { code?: string }) =>
      error.code === "validation" && pattern.test(error.message),
  );
}

// case 23

Deno.test("no parameters give TorchRL's defaults", () => {
  assert.deepEqual(wire({}), defaults);
});

Deno.test("without defaults the server's own apply", () => {
  const { samplingParams } = convertSamplingParams({ topP: 0.5 }, { defaults: {} });
  assert.deepEqual(samplingParams, { top_p: 0.5 });
});

// case 24

Deno.test("a parameter given directly overrides samplingParams, under any of its names", () => {
  assert.equal(wire(mergeSampling({ temperature: 0.1 }, { temperature: 0.9 })).temperature, 0.9);
  assert.equal(wire(mergeSampling({ max_tokens: 5 }, { maxNewTokens: 7 })).max_new_tokens, 7);
  assert.equal(wire(mergeSampling({ do_sample: false }, { temperature: 0.5 })).temperature, 0.5);
  assert.equal(wire(mergeSampling({ temperature: 0.1 }, { topP: 0.5 })).temperature, 0.1);
});

// case 25

Deno.test("top_k -1 and an empty stop list are left out, others are sent", () => {
  assert.equal("top_k" in wire({ topK: -1 }), false);
  assert.equal(wire({ topK: 5 }).top_k, 5);
  assert.deepEqual(wire({ stop: ["a"] }).stop, ["a"]);
  assert.equal("stop" in wire({ stop: [] }), false);
  const passed = wire({ ignoreEos: true, n: 2 });
  assert.deepEqual([passed.ignore_eos, passed.n], [true, 2]);
});

// case 26

Deno.test("vLLM's name wins over another name of the parameter, with a warning", () => {
  const both = convertSamplingParams({ max_tokens: 20, max_new_tokens: 10 });
  assert.equal(both.samplingParams.max_new_tokens, 20);
  assert.match(both.warnings.join(), /max_tokens wins over max_new_tokens/);
  assert.equal(wire({ n: 2, num_return_sequences: 1 }).n, 2);
});

// case 27

Deno.test("the same rule holds in either order of names", () => {
  assert.equal(wire({ max_new_tokens: 5, max_tokens: 7 }).max_new_tokens, 7);
  assert.equal(wire({ max_tokens: 7, maxNewTokens: 5 }).max_new_tokens, 7);
  const equal = convertSamplingParams({ max_tokens: 7, maxNewTokens: 7 });
  assert.deepEqual(equal.warnings, []);
});

Deno.test("two names of one origin with different values are refused by name", () => {
  refuses({ maxNewTokens: 5, max_new_tokens: 6 }, /maxNewTokens and max_new_tokens .* 5 and 6/);
  refuses({ stop_strings: ["a"], stop_sequences: ["b"] }, /stop_strings and stop_sequences/);
});

// case 28

Deno.test("values out of range are refused with TorchRL's words", () => {
  refuses({ temperature: -0.1 }, /Temperature must be non-negative/);
  refuses({ topP: 1.5 }, /top_p must be between 0 and 1/);
  refuses({ topP: -0.1 }, /top_p must be between 0 and 1/);
  refuses({ repetitionPenalty: 0 }, /repetition_penalty must be positive/);
  refuses({ do_sample: false, temperature: 0.7 }, /When do_sample=False.*temperature must be 0/);
  refuses({ topK: -2 }, /top_k must be positive/);
  for (const topK of [0, -1]) {
    assert.throws(
      () => convertSamplingParams({ topK }, { topKMayBeOff: false }),
      /top_k must be positive/,
    );
  }
});

// case 29

Deno.test("do_sample false gives temperature 0", () => {
  assert.equal(wire({ do_sample: false }).temperature, 0);
  assert.equal(wire({ do_sample: true }).temperature, 1);
});

// case 30

Deno.test("stop_sequences becomes stop", () => {
  assert.deepEqual(wire({ stop_sequences: ["\n"] }).stop, ["\n"]);
});

// case 31

Deno.test("the keys that TorchRL loses are sent", () => {
  const sent = wire({
    seed: 3,
    ignore_eos: true,
    json_schema: "{}",
    stop_token_ids: [1],
    min_tokens: 2,
    skip_special_tokens: false,
    num_return_sequences: 2,
    stop_strings: ["x"],
    logit_bias: { 5: 1.5 },
    min_p: 0.1,
  });
  assert.deepEqual(sent, {
    ...defaults,
    sampling_seed: 3,
    ignore_eos: true,
    json_schema: "{}",
    stop_token_ids: [1],
    min_new_tokens: 2,
    skip_special_tokens: false,
    n: 2,
    stop: ["x"],
    logit_bias: { 5: 1.5 },
    min_p: 0.1,
  });
});

// case 31

Deno.test("an unknown key is refused with the nearest, or with what to do instead", () => {
  refuses({ temprature: 1 }, /Unknown sampling parameter "temprature"; did you mean "temperature"/);
  refuses({ maxNewTokns: 1 }, /did you mean "maxNewTokens"/);
  refuses({ best_of: 4 }, /no sampling parameter "best_of": give n/);
  refuses({ truncatePromptTokens: 4 }, /--allow-auto-truncate/);
  refuses({ no_repeat_ngram_size: 2 }, /frequencyPenalty/);
});

Deno.test("vLLM's log-probability names become fields of the request", () => {
  assert.deepEqual(convertSamplingParams({ logprobs: 3 }).requestFields, {
    return_logprob: true,
    top_logprobs_num: 3,
  });
  assert.deepEqual(convertSamplingParams({ prompt_logprobs: 0 }).requestFields, {
    return_logprob: true,
    logprob_start_len: 0,
    top_logprobs_num: 0,
  });
  assert.deepEqual(convertSamplingParams({ logprob_token_ids: [1] }).requestFields, {
    token_ids_logprob: [1],
  });
});

Deno.test("grammars of vLLM become SGLang's, one at most", () => {
  assert.equal(wire({ structured_outputs: { choice: ["a.b", "c"] } }).regex, "(a\\.b|c)");
  assert.equal(
    wire({ guided_decoding: { json: { type: "object" } } }).json_schema,
    `{"type":"object"}`,
  );
  refuses({ regex: "a", ebnf: "b" }, /Only one grammar.*regex and ebnf/);
  refuses({ structured_outputs: { jsn: 1 } }, /structured_outputs\.jsn/);
});

Deno.test("Hugging Face's names are taken", () => {
  const sent = wire({ eos_token_id: 7, sequence_bias: [[[5], -1]], num_beams: 1 });
  assert.deepEqual([sent.stop_token_ids, sent.logit_bias], [[7], { 5: -1 }]);
  assert.equal("beam_width" in sent, false);
  refuses({ sequence_bias: [[[5, 6], -1]] }, /single tokens only/);
});

Deno.test("wrong types are refused with what was given", () => {
  refuses({ maxNewTokens: 1.5 }, /max_new_tokens must be an integer of at least 0, got 1.5/);
  refuses({ stop: [""] }, /stop must be a text or a list of texts/);
  refuses({ stopTokenIds: {} }, /stop_token_ids must be a list of token ids, got {}/);
  refuses({ logitBias: { a: 1 } }, /logit_bias must have token ids as keys/);
  refuses({ logitBias: { 5: 1e308 } }, /between -1000000000 and 1000000000/);
  refuses({ minNewTokens: 5, maxNewTokens: 4 }, /min_new_tokens \(5\) must be at most/);
  refuses({ ignoreEos: "yes" }, /ignore_eos must be true or false/);
});

Deno.test("no parameter vanishes: each is sent, moved to the request, or refused", () => {
  const names = ["maxNewTokens", "topP", "minP", "seed", "stop", "logprobs", "ignoreEos", "xyzzy"];
  const value = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constant("a"), fc.constant(true));
  fc.assert(fc.property(fc.constantFrom(...names), value, (name, given) => {
    try {
      const { samplingParams, requestFields } = convertSamplingParams({ [name]: given }, {
        defaults: {},
      });
      assert.notEqual(Object.keys({ ...samplingParams, ...requestFields }).length, 0);
    } catch (error) {
      assert.equal((error as { code?: string }).code, "validation");
    }
  }));
});
