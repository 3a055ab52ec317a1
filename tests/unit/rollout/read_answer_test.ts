import assert from "node:assert/strict";
import fc from "fast-check";
import { silentLogger } from "../../../src/internal/logger.ts";
import type { AnswerReader } from "../../../src/policy/answers/read_answer.ts";
import type { ToolCallFormat } from "../../../src/policy/answers/call_format.ts";
import { LocalTokenizer } from "../../../src/policy/local_tokenizer.ts";
import type { Tokenizer } from "../../../src/policy/tokenizer.ts";
import { PiecewiseTokenizer } from "../../../src/rollout/piecewise_tokenizer.ts";
import { TemplateChatModel } from "../../../src/policy/wrapper/chat_model.ts";
import { templateMessages } from "../../../src/policy/templates/template_messages.ts";
import { turnTemplates } from "../../_support/turn_templates.ts";

const folder = new URL("../../fixtures/policy/byte_level/", import.meta.url);
const MARKS = [
  "<｜tool▁calls▁begin｜>",
  "<｜tool▁call▁begin｜>",
  "<｜tool▁sep｜>",
  "<｜tool▁call▁end｜>",
  "<｜tool▁calls▁end｜>",
  "<|channel|>",
  "<|message|>",
  "<|start|>",
  "<|end|>",
  "<|return|>",
];

/** A tokenizer whose marks around calls and thoughts are special tokens. */
async function marking(): Promise<LocalTokenizer> {
  const tokenizer = JSON.parse(
    await Deno.readTextFile(new URL("tokenizer.json", folder)),
  );
  const like = tokenizer.added_tokens[0];
  MARKS.forEach((content, index) =>
    tokenizer.added_tokens.push({ ...like, content, id: 300 + index })
  );
  // A sign of how the model writes calls; servers show it, as they do for Qwen.
  tokenizer.added_tokens.push({ ...like, content: "<tool_call>", id: 399, special: false });
  return new LocalTokenizer({ tokenizer, name: "marking" });
}

/** An answer as the server shows it: without its special tokens. */
async function read(
  written: string,
  promptText = "",
  {
    stop = true,
    skipSpecialTokens = true,
    isTold = true,
    isServers = false,
    isShared = false,
    ...options
  }: {
    stop?: boolean;
    /** Whether the tokenizer is one that knows no special tokens, as a server's. */
    isServers?: boolean;
    /** Whether the model gets a tokenizer that remembers already, as those of a gateway share one. */
    isShared?: boolean;
    isTold?: boolean;
    skipSpecialTokens?: boolean;
    readAnswer?: AnswerReader;
    variables?: Record<string, unknown>;
    toolCallFormats?: readonly ToolCallFormat[];
    chatTemplate?: string;
  } = {},
) {
  const tokenizer = await marking();
  const chatTemplate = turnTemplates["keeps it"];
  const asked: Tokenizer = {
    name: "asked",
    chatTemplate: null,
    specialTokens: { bosToken: null, eosToken: null, padToken: null },
    idOf: () => null,
    encode: (text) => tokenizer.encode(text),
    decode: (ids, options) => tokenizer.decode(ids, options),
  };
  const given = isServers ? asked : tokenizer;
  const model = new TemplateChatModel({
    tokenizer: isShared ? new PiecewiseTokenizer(given) : given,
    chatTemplate,
    logger: silentLogger,
    ...options,
  });
  const ids = tokenizer.encode(written);
  return await model.read({
    promptIds: new Int32Array(),
    ids,
    logProbs: null,
    text: isTold ? tokenizer.decode(stop ? ids.subarray(0, -1) : ids, { skipSpecialTokens }) : null,
    finishReason: stop
      ? { type: "stop", matched: ids.at(-1)! }
      : { type: "length", length: ids.length },
    weightVersion: null,
    weightVersions: null,
  }, { promptText });
}

Deno.test("calls that are written with special tokens are read from the ids", async () => {
  const message = await read(
    "I multiply.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>multiply\n" +
      '```json\n{"a": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><|im_end|>',
  );
  assert.equal(message.content, "I multiply.");
  assert.deepEqual(
    message.toolCalls!.map(({ name, arguments: given }) => [name, given]),
    [["multiply", { a: 2 }]],
  );
});

Deno.test("thoughts in channels are told apart from what is said", async () => {
  const message = await read(
    "<|channel|>analysis<|message|>hmm<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>",
  );
  assert.deepEqual([message.content, message.reasoning_content], ["Hi", "hmm"]);
});

Deno.test("special tokens that mean nothing stay out of the content, as the server shows it", async () => {
  const message = await read("a<|im_start|>b<|im_end|>");
  assert.equal(message.content, "ab");
  assert.equal(message.toolCalls, null);
});

Deno.test("a call in thoughts that the prompt opened is no call", async () => {
  const call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>';
  assert.equal((await read(`${call}</think>no<|im_end|>`, "…<think>\n")).toolCalls, null);
  assert.equal((await read(`${call}<|im_end|>`)).toolCalls!.length, 1);
});

Deno.test("an answer in a channel is what was said, without the channel's name", async () => {
  await fc.assert(
    fc.asyncProperty(fc.stringMatching(/^[a-z0-9 .]{0,20}$/), async (said) => {
      const { content, toolCalls } = await read(`<|channel|>final<|message|>${said}<|return|>`);
      assert.deepEqual([content, toolCalls], [said, null]);
    }),
    { numRuns: 20 },
  );
});

for (
  const [what, written, stop] of [
    ["broken", "<|channel|>commentary to=functions.f<|message|>{que: x}<|end|>", true],
    ["cut", '<|channel|>commentary to=functions.f<|message|>{"que', false],
    ["cut", "I call.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f", false],
  ] as const
) {
  Deno.test(`a ${what} call with special tokens is a fault: ${written}`, async () => {
    const message = await read(written, "", { stop });
    assert.equal(message.toolCallFaults?.length, 1);
    assert.equal(message.toolCalls, null);
    assert.equal(message.content, written.startsWith("I call.") ? "I call." : "");
  });
}

const search = {
  type: "function",
  function: { name: "search", parameters: { properties: { query: { type: "string" } } } },
};
const own = (): ReturnType<AnswerReader> => ({
  reasoning: null,
  content: "",
  calls: [{ name: "search", arguments: { query: "2024" }, id: "call_1" }],
  faults: [],
});
const coder =
  "<tool_call>\n<function=search>\n<parameter=query>\n2024\n</parameter>\n</function>\n</tool_call>";
const cases: readonly [string, string, AnswerReader | undefined][] = [
  ["with tools", coder, undefined],
  ["by a reader of one's own that adds an id", coder, own],
  ["by a reader of one's own, in a spelling of its own", "CALL search 2024", own],
];
for (const [how, written, readAnswer] of cases) {
  Deno.test(`calls in a content are not written a second time when read ${how}`, async () => {
    const options = { variables: { tools: [search] }, ...(readAnswer ? { readAnswer } : {}) };
    const message = await read(`${written}<|im_end|>`, "", options);
    assert.deepEqual(message.toolCalls![0]!.arguments, { query: "2024" });
    const rendered = (one: typeof message) => templateMessages(one, { keepsParts: false })[0]!;
    assert.equal("tool_calls" in rendered(message), false);
    assert.equal("tool_calls" in rendered({ ...message }), false);
    const calls = message.toolCalls!.map((call) =>
      Object.fromEntries(Object.entries(call).reverse())
    );
    const json = JSON.parse(JSON.stringify(message));
    for (const copy of [structuredClone(message), json, { ...json, toolCalls: calls }]) {
      assert.equal("tool_calls" in rendered(copy), false);
    }
    const other = [{ name: "search", arguments: { query: "2025" } }];
    assert.equal("tool_calls" in rendered({ ...message, toolCalls: other }), true);
    assert.equal("tool_calls" in rendered({ ...message, content: "" }), true);
  });
}

Deno.test("channels are read also where the server shows them, as templates refuse them", async () => {
  const call = "<|start|>assistant<|channel|>commentary to=functions.f<|message|>{}<|end|>";
  for (
    const written of [
      "<|channel|>analysis<|message|>hmm<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>",
      `<|channel|>analysis<|message|>hmm<|end|>${call}`,
      "<|channel|>analysis<|message|>hm",
    ]
  ) {
    const stop = !written.endsWith("hm");
    const hidden = await read(written, "", { stop });
    assert.deepEqual(await read(written, "", { stop, skipSpecialTokens: false }), hidden);
    assert.equal(String(hidden.content).includes("<|"), false);
  }
});

Deno.test("a model's template and tokens tell how it writes calls, and its user may tell", async () => {
  const hermes = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>';
  const mistral = '[TOOL_CALLS][{"name": "f", "arguments": {}}]<|im_end|>';
  const calls = async (written: string, options: Parameters<typeof read>[2] = {}) =>
    (await read(written, "", options)).toolCalls?.length ?? 0;
  assert.deepEqual([await calls(hermes), await calls(mistral)], [1, 0]);
  const told = { toolCallFormats: ["mistral"] as const };
  assert.deepEqual([await calls(hermes, told), await calls(mistral, told)], [0, 1]);
  const chatTemplate = turnTemplates["keeps it"] + "{# [TOOL_CALLS] #}";
  assert.equal(await calls(mistral, { chatTemplate }), 1);
});

Deno.test("an answer of a server that gives no text says what its ids say", async () => {
  await fc.assert(
    fc.asyncProperty(fc.stringMatching(/^[a-z0-9 .é]{1,20}$/), async (said) => {
      const told = await read(`${said}<|im_end|>`);
      assert.deepEqual(await read(`${said}<|im_end|>`, "", { isTold: false }), told);
    }),
    { numRuns: 20 },
  );
  const call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>';
  assert.equal((await read(call, "", { isTold: false })).toolCalls!.length, 1);
});

Deno.test("a call with special tokens is found, too, where only a server knows the tokens", async () => {
  const written = "<|channel|>commentary to=functions.f<|message|>{}<|return|>";
  for (const isShared of [false, true]) {
    const message = await read(written, "", {
      isServers: true,
      isShared,
      toolCallFormats: ["gpt-oss"],
    });
    assert.deepEqual(message.toolCalls?.map(({ name }) => name), ["f"]);
  }
});

Deno.test("a reader of one's own that gives no answer is told what one is", async () => {
  for (const given of [null, undefined, {}, "text", { calls: [], faults: [] }]) {
    const readAnswer = (() => given) as unknown as AnswerReader;
    await assert.rejects(read("x<|im_end|>", "", { readAnswer }), /readAnswer must give/);
  }
});
