import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { ChatHistory, History } from "../../../src/policy/chat.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import type { LLMWrapperOptions } from "../../../src/policy/mod.ts";
import { UnsupportedError, ValidationError } from "../../../src/errors.ts";
import {
  answer,
  healthyServer,
  type StandIn,
  standIn,
  vocabularyRefusal,
} from "../../_support/http_stand_in.ts";
import { FakeEngine, qwenTiny, wrap } from "./support.ts";

const CHAT = [{ role: "user", content: "Hi" }];

function sentSampling(server: StandIn): Record<string, unknown> {
  const sent = server.requests.findLast(({ path }) => path === "/generate");
  return sent?.body?.sampling_params as Record<string, unknown>;
}

/** The sampling parameters that reach the server for these options of the wrapper. */
async function wire(options: LLMWrapperOptions): Promise<Record<string, unknown>> {
  await using server = standIn(healthyServer);
  await using engine = await AsyncSGLang.connect(server.url, { vocabSize: 1024 });
  const wrapper = new SGLangWrapper(engine, {
    inputMode: "tokens",
    returnLogProbs: false,
    ...options,
  });
  await wrapper.call({ tokens: [[1, 2]] });
  return sentSampling(server);
}

// case 26

Deno.test("of two names of one parameter the older wins, with a warning", async () => {
  const warnings: string[] = [];
  const logger = { debug() {}, info() {}, error() {}, warn: (text: string) => warnings.push(text) };
  const params = await wire({ generateKwargs: { max_tokens: 20, max_new_tokens: 10 }, logger });
  assert.equal(params.max_new_tokens, 20);
  assert.equal(warnings.length, 1);
  const { wrapper } = wrap({ generateKwargs: { n: 2, num_return_sequences: 1 } });
  const output = await wrapper.call({ history: [CHAT] });
  assert.deepEqual(output.batchShape, [1, 2]);
});

// case 27

Deno.test("the engine follows the same rule as the wrapper", async () => {
  await using server = standIn(healthyServer);
  await using engine = await AsyncSGLang.connect(server.url, { vocabSize: 1024 });
  await engine.generate("hi", { samplingParams: { max_new_tokens: 5, max_tokens: 7 } });
  assert.equal(sentSampling(server).max_new_tokens, 7);
});

// case 28

Deno.test("values out of range are refused when the wrapper is made", () => {
  const refused = (generateKwargs: LLMWrapperOptions["generateKwargs"], text: RegExp) =>
    assert.throws(
      () => new SGLangWrapper(new FakeEngine(), { generateKwargs }),
      (error) => error instanceof ValidationError && text.test(error.message),
    );
  refused({ temperature: -1 }, /Temperature must be non-negative/);
  refused({ top_p: 1.5 }, /top_p must be between 0 and 1/);
  refused({ top_k: -1 }, /top_k must be positive/);
  refused({ top_k: 0 }, /top_k must be positive/);
  refused({ repetition_penalty: 0 }, /repetition_penalty must be positive/);
  refused({ do_sample: false, temperature: 0.5 }, /When do_sample=False.*temperature must be 0/);
});

// case 29

Deno.test("do_sample false is temperature 0", async () => {
  assert.equal((await wire({ generateKwargs: { do_sample: false } })).temperature, 0);
});

// case 30

Deno.test("stop_sequences is stop", async () => {
  assert.deepEqual((await wire({ generateKwargs: { stop_sequences: ["a"] } })).stop, ["a"]);
});

// case 31

Deno.test("every parameter of SGLang passes through, unknown ones are refused", async () => {
  const params = await wire({
    generateKwargs: {
      ignore_eos: true,
      stop_token_ids: [3],
      min_new_tokens: 1,
      skip_special_tokens: false,
      json_schema: "{}",
    },
  });
  assert.deepEqual(
    [params.ignore_eos, params.stop_token_ids, params.min_new_tokens, params.json_schema],
    [true, [3], 1, "{}"],
  );
  const generateKwargs = { temprature: 1 } as LLMWrapperOptions["generateKwargs"];
  assert.throws(
    () => new SGLangWrapper(new FakeEngine(), { generateKwargs }),
    /did you mean "temperature"/,
  );
});

// case 32

Deno.test("a model given as an address is connected at the first call", async () => {
  await using server = standIn({
    ...healthyServer,
    "POST /generate": ({ body }) =>
      JSON.stringify(body).includes("logit_bias")
        ? vocabularyRefusal(1024)
        : Response.json(answer()),
  });
  await using wrapper = new SGLangWrapper(server.url, {
    inputMode: "tokens",
    returnLogProbs: false,
  });
  assert.deepEqual(server.calls, []);
  assert.equal(wrapper.model, server.url);
  const output = await wrapper.call({ tokens: [1, 2] });
  assert.deepEqual(Array.from(output.tokens.only("response")), [5, 6]);
  assert.notEqual(wrapper.model as unknown, server.url);
});

Deno.test("an address that nobody answers at fails the call, and the next call tries again", async () => {
  let isUp = false;
  const wrapper = new SGLangWrapper(
    () => isUp ? Promise.resolve(new FakeEngine()) : Promise.reject(new Error("not up yet")),
    { inputMode: "tokens" },
  );
  await assert.rejects(wrapper.call({ tokens: [[1]] }), /not up yet/);
  isUp = true;
  assert.deepEqual((await wrapper.call({ tokens: [[1]] })).batchShape, [1]);
});

// case 33

Deno.test("an unknown input mode is refused", () => {
  const options = { inputMode: "x" } as unknown as LLMWrapperOptions;
  assert.throws(() => new SGLangWrapper(new FakeEngine(), options), /inputMode must be one of/);
});

// case 34

Deno.test("scoring without log-probs is refused", () => {
  assert.throws(
    () => wrap({ generate: false, returnLogProbs: false }),
    /returnLogProbs must be true/,
  );
});

// case 35

Deno.test("keys read and written, by mode", () => {
  const keys = (options: LLMWrapperOptions) => {
    const { wrapper } = wrap(options);
    return [wrapper.inKeys, wrapper.outKeys];
  };
  assert.deepEqual(keys({}), [
    [["history", "prompt"]],
    ["text", "masks", "tokens", "logProbs", "history"],
  ]);
  assert.deepEqual(keys({ inputMode: "text" }), [
    [["text", "prompt"]],
    ["text", "masks", "tokens", "logProbs"],
  ]);
  assert.deepEqual(keys({ inputMode: "tokens", generate: false }), [
    [["tokens", "full"]],
    ["masks", "tokens", "logProbs"],
  ]);
});

// case 36

Deno.test("a custom input key is read", async () => {
  const { wrapper, engine } = wrap({ inputMode: "tokens", inputKey: ["custom", "prompt"] });
  assert.deepEqual(wrapper.inKeys, [["custom", "prompt"]]);
  await wrapper.call({ custom: { prompt: [[7, 8]] } });
  assert.deepEqual(Array.from(engine.lastIds[0]!), [7, 8]);
});

Deno.test("custom keys are written", async () => {
  const { wrapper } = wrap({
    tokensKey: "ids",
    logProbsKey: "lp",
    historyKey: "chat",
    inplace: false,
  });
  const output = await wrapper.call({ chat: [CHAT] });
  assert.deepEqual(Object.keys(output).sort(), [
    "batchShape",
    "chat",
    "ids",
    "lp",
    "masks",
    "samples",
    "text",
    "weightVersion",
  ]);
});

// case 37

Deno.test("in place updates the input, false and empty leave it alone", async () => {
  const input = { history: [CHAT], extra: 1 };
  const fresh = await wrap({ inplace: false }).wrapper.call(input);
  assert.notEqual(fresh, input);
  assert.deepEqual(["extra" in fresh, Object.keys(input)], [false, ["history", "extra"]]);
  const empty = await wrap({ inplace: "empty" }).wrapper.call(input);
  assert.deepEqual(["extra" in empty, Object.keys(input)], [false, ["history", "extra"]]);
  const same = await wrap().wrapper.call(input);
  assert.equal(same as unknown, input);
  assert.equal(input.extra, 1);
  assert.ok(same.history instanceof ChatHistory);
});

// case 38

Deno.test("several samples cannot be written in place", () => {
  for (const inplace of [true, "empty"] as const) {
    assert.throws(() => wrap({ numSamples: 2, inplace }), /inplace must be false/);
  }
});

// case 47

Deno.test("without log-probs none are asked for and none returned", async () => {
  const { wrapper, engine } = wrap({ returnLogProbs: false, inplace: false });
  assert.ok(!wrapper.outKeys.includes("logProbs"));
  const output = await wrapper.call({ history: [CHAT] });
  assert.equal(output.logProbs, undefined);
  assert.equal(engine.calls[0]!.options.returnLogProbs, false);
});

// case 48

Deno.test("a new version keeps every option, overrides win", async () => {
  const { wrapper, engine } = wrap({
    generateKwargs: { stop: ["x"] },
    inputKey: ["my", "prompt"],
    minBatchSize: 2,
    maxBatchSize: 5,
    tokenizerKwargs: { a: 1 },
    preferTokens: false,
  });
  const version = wrapper.getNewVersion({ returnLogProbs: false, maxBatchSize: 7 });
  assert.notEqual(version, wrapper);
  assert.equal(version.model, engine);
  assert.equal(await version.tokenizer(), qwenTiny);
  assert.deepEqual(version.options, {
    ...wrapper.options,
    returnLogProbs: false,
    maxBatchSize: 7,
  });
});

// case 49

Deno.test("there is no distribution object", () => {
  assert.throws(() => wrap().wrapper.getDist(), UnsupportedError);
});

// case 71

Deno.test("batch sizes must fit each other", () => {
  assert.doesNotThrow(() => wrap({ minBatchSize: 2, maxBatchSize: 5 }));
  assert.doesNotThrow(() => wrap({ minBatchSize: 3, maxBatchSize: 3 }));
  assert.throws(
    () => wrap({ minBatchSize: 5, maxBatchSize: 2 }),
    /minBatchSize \(5\) must be <= maxBatchSize \(2\)/,
  );
});

// case 72

Deno.test("batch sizes without batching are refused", () => {
  assert.throws(() => wrap({ batching: false, minBatchSize: 2 }), ValidationError);
  assert.throws(() => wrap({ batching: false, maxBatchSize: 2 }), ValidationError);
});

// case 73

Deno.test("with only a maximum the minimum is 1", async () => {
  const { wrapper } = wrap({ maxBatchSize: 2 });
  const state = wrapper.getBatchingState();
  assert.ok(state.batchingEnabled && state.minBatchSize === 1 && state.maxBatchSize === 2);
  assert.deepEqual((await wrapper.call({ history: [CHAT, CHAT, CHAT] })).batchShape, [3]);
});

Deno.test("misspelt options and things that are no engine are refused", () => {
  const options = { inputmode: "text" } as unknown as LLMWrapperOptions;
  assert.throws(() => new SGLangWrapper(new FakeEngine(), options), /did you mean "inputMode"/);
  assert.throws(() => new SGLangWrapper({} as FakeEngine), /needs an engine or the address/);
  assert.throws(() => wrap({ numSamples: 0 }), ValidationError);
  assert.throws(() => wrap({ batchingTimeoutMs: Infinity }), ValidationError);
});

Deno.test("chat histories, histories and plain messages are read alike", async () => {
  const { wrapper, engine } = wrap({ inplace: false });
  const history = History.fromChats([CHAT]);
  for (
    const value of [history, new ChatHistory({ prompt: history }), { prompt: history }, [CHAT]]
  ) {
    await wrapper.call({ history: value });
  }
  const sent = engine.calls.map(({ prompts }) =>
    Array.from((prompts.inputIds as Int32Array[])[0]!)
  );
  for (const ids of sent) assert.deepEqual(ids, sent[0]);
});

Deno.test("a chat template runs under the limits of the wrapper", async () => {
  const chatTemplate = "{% for i in range(100) %}{{ messages[0].content }}{% endfor %}";
  const { wrapper } = wrap({ chatTemplate, templateLimits: { maxSteps: 50 } });
  await assert.rejects(wrapper.call({ history: [CHAT] }), {
    code: "template_limit",
    limit: "maxSteps",
    allowed: 50,
  });
  const { wrapper: larger } = wrap({ chatTemplate, templateLimits: { maxSteps: 10_000 } });
  assert.equal((await larger.call({ history: [CHAT] })).text!.get("prompt")[0], "Hi".repeat(100));
  for (
    const [limits, message] of [
      [{ maxSteps: 0 }, /templateLimits\.maxSteps must be an integer of at least 1, got 0/],
      [{ maxSeconds: 1 }, /templateLimits\.maxSeconds is no limit: the limits are maxSteps/],
    ] as const
  ) {
    assert.throws(() => wrap({ templateLimits: limits as never }), { code: "validation", message });
  }
});

Deno.test("a reader of the caller's own is told the tools, and its message is the dialog's", async () => {
  const seen: unknown[] = [];
  const tools = [{ type: "function", function: { name: "add" } }];
  const { wrapper } = wrap({
    tokenizerKwargs: { tools },
    readAnswer: (text, options) => {
      seen.push([text === "", options.tools, options.isThinking]);
      const calls = [{ name: "add", arguments: {} }];
      return Promise.resolve({ reasoning: null, content: "", calls, faults: [] });
    },
  });
  const output = await wrapper.call({ history: [CHAT] });
  assert.deepEqual(seen[0], [false, tools, false]);
  const [messages] = output.history!.full!.chats;
  assert.deepEqual(messages!.at(-1)!.toolCalls, [{ name: "add", arguments: {} }]);
});

Deno.test("arguments of apply_chat_template that are no variables are refused, with what to do", () => {
  const names = [
    "continue_final_message",
    "continueFinalMessage",
    "add_generation_prompt",
    "padding",
  ];
  for (const name of names) {
    assert.throws(
      () => wrap({ tokenizerKwargs: { [name]: true } }),
      (error) => error instanceof ValidationError && error.message.includes(`"${name}" is no var`),
    );
  }
  assert.throws(() => wrap({ tokenizerKwargs: [] as never }), /must be an object with variables/);
});
