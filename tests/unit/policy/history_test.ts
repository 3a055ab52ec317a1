import assert from "node:assert/strict";
import {
  addChatTemplate,
  ChatHistory,
  chatToText,
  chatToTokens,
  chooseTemplate,
  extractResponses,
  History,
  historyToTokens,
  textToHistory,
  textToTokens,
  tokensToHistory,
  tokensToText,
} from "../../../src/policy/chat.ts";
import { masked, Text, Tokens } from "../../../src/policy/rows.ts";
import { families } from "../../../src/policy/templates/families/mod.ts";
import { ValidationError } from "../../../src/errors.ts";
import { bytes, golden, named, pythonText, qwenTiny } from "./support.ts";

const CHAT = [{ role: "user", content: "Hello" }, { role: "assistant", content: "Hi there!" }];
const TOOL_CALL = '<tool_call>\n{"name": "calc", "arguments": {"e": "2+2"}}\n</tool_call>';

/** The only text of a golden that is a Python list of one text. */
async function goldenText(name: string): Promise<string> {
  return pythonText((await golden("history", name)).match(/^\['(.*)'\]/s)![1]!);
}

// case 111

Deno.test("chatml renders as TorchRL, with and without the generation prompt", async () => {
  const history = History.fromChats([CHAT]);
  const options = { chatTemplateName: "chatml_format" };
  const [plain] = history.applyChatTemplate({ ...options, addGenerationPrompt: false });
  const [opened] = history.applyChatTemplate(options);
  assert.equal(plain, await goldenText("chatml str"));
  assert.equal(opened, plain + "<|im_start|>assistant\n");
});

for (const name of ["qwen", "dialogpt", "falcon", "deepseek", "llama"]) {
  // case 112
  Deno.test(`${name} renders as TorchRL`, async () => {
    const tokenizer = named("x", {
      specialTokens: { ...bytes.specialTokens, bosToken: "<|bos|>" },
    });
    const [text] = History.fromChats([CHAT]).applyChatTemplate({
      chatTemplateName: name,
      tokenizer,
    });
    assert.equal(text, await goldenText(name));
  });
}

// case 112

Deno.test("qwen keeps a system message that is first and lists tools", () => {
  const history = History.fromChats([{ role: "system", content: "S" }, ...CHAT]);
  const [text] = history.applyChatTemplate({
    chatTemplateName: "qwen",
    variables: { tools: [{ name: "calc" }] },
  });
  assert.ok(text!.startsWith("<|im_start|>system\nS\n\n# Tools"));
  assert.ok(text!.includes('<tools>\n{"name": "calc"}\n</tools>'));
});

Deno.test("the model's own template is the default; a guess looks at the last name and says so", () => {
  const own = "{{ messages }}";
  const choose = (name: string, chatTemplate: string | null, chatTemplates = {}) =>
    chooseTemplate({ tokenizer: named(name, { chatTemplate, chatTemplates }) });
  assert.deepEqual(choose("Qwen/Qwen3-8B", own), { name: "model", template: own, guess: null });
  assert.equal(choose("/data/qwen-runs/mistral/step-5", null).name, "chatml_format");
  assert.match(choose("/data/qwen-runs/step-5", null).guess!, /no chat template of its own/);
  assert.equal(choose("/data/runs/my-Qwen-7b/", null).name, "qwen");
  assert.match(choose("/data/runs/my-Qwen-7b/", null).guess!, /guessed from its name/);
  const tokenizer = named("x", {
    chatTemplate: own,
    chatTemplates: { default: own, tool_use: "T" },
  });
  assert.equal(chooseTemplate({ tokenizer, hasTools: true }).template, "T");
  assert.equal(chooseTemplate({ tokenizer, chatTemplateName: "model:tool_use" }).template, "T");
  assert.throws(
    () => chooseTemplate({ tokenizer, chatTemplateName: "model:rag" }),
    /default, tool_use/,
  );
});

// case 113

Deno.test("the template is chosen by the model's name, custom keywords first", async () => {
  for (const model of ["Qwen/Q", "microsoft/DialoGPT", "tiiuae/falcon", "deepseek-ai/x"]) {
    const [text] = History.fromChats([CHAT]).applyChatTemplate({
      tokenizer: named(model),
      chatTemplateOrder: "torchrl",
      addGenerationPrompt: false,
    });
    const printed = await golden("history", `auto ${model}`);
    assert.equal(text!.slice(0, 40).trimEnd(), printed.trimEnd());
  }
  const own =
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}";
  const choose = (name: string, chatTemplate: string | null = null) =>
    chooseTemplate({ tokenizer: named(name, { chatTemplate }), chatTemplateOrder: "torchrl" }).name;
  assert.equal(choose("META-LLAMA/x"), "llama");
  assert.equal(choose("mistral"), "chatml_format");
  assert.equal(choose("mistral", own), "model");
  assert.equal(choose("mistral", "{{ messages }}"), "chatml_format");
  addChatTemplate("case113", { template: own, modelKeywords: ["My-Qwen"] });
  assert.equal(choose("org/my-qwen-7b"), "case113");
});

for (const { name } of families) {
  // case 114
  Deno.test(`the assistant mask of ${name} holds every assistant's content and its end`, async () => {
    const chat = [...CHAT, { role: "user", content: "Hi there! again" }, {
      role: "assistant",
      content: "Bye",
    }];
    const { tokens, masks } = await historyToTokens(History.fromChats(chat), {
      tokenizer: bytes,
      chatTemplateName: name,
    });
    const text = bytes.decode(masked(tokens.only("full"), masks.only("allAssistantMask")));
    const end = {
      chatml_format: "<|im_end|>",
      qwen: "<|im_end|>",
      llama: "<|eot|>",
      falcon: "",
    }[name] ?? bytes.specialTokens.eosToken;
    const space = ["falcon", "deepseek"].includes(name) ? " " : "";
    assert.equal(text, `${space}Hi there!${end}${space}Bye${end}`);
  });
}

// case 114

Deno.test("without an assistant the mask is all zero", async () => {
  const { masks } = await historyToTokens(History.fromChats(CHAT.slice(0, 1)), {
    tokenizer: qwenTiny,
  });
  assert.ok(masks.only("allAssistantMask").every((value) => value === 0));
});

Deno.test("assistant masks are exact for templates without generation blocks", async () => {
  const template =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}[/]{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
  const { tokens, masks } = await historyToTokens(History.fromChats(CHAT), {
    tokenizer: bytes,
    chatTemplate: template,
  });
  assert.equal(
    bytes.decode(masked(tokens.only("full"), masks.only("allAssistantMask"))),
    "Hi there!",
  );
});

Deno.test("assistant masks are found for templates that trim contents", async () => {
  const chat = [{ role: "user", content: "a" }, { role: "assistant", content: "  a b " }];
  const { tokens, masks } = await historyToTokens(History.fromChats(chat), {
    tokenizer: bytes,
    chatTemplate: "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}[/]{% endfor %}",
  });
  assert.equal(bytes.decode(masked(tokens.only("full"), masks.only("allAssistantMask"))), "a b");
});

// case 115

Deno.test("end markers tell complete messages; empty contents and white space are fine", () => {
  const text =
    "<|im_start|>user\n  a <|im_end|>\n<|im_start|>assistant\n<|endoftext|><|im_start|>user\nb";
  for (const chatTemplateName of ["qwen", "chatml_format"]) {
    const { messages } = History.fromText(text, { chatTemplateName });
    assert.deepEqual(messages.map((m) => [m.role, m.content, m.isComplete]), [
      ["user", "a", true],
      ["assistant", "", true],
      ["user", "b", false],
    ]);
  }
});

// case 116

Deno.test("tool calls are parsed, and a parsed turn renders as it was", () => {
  const text =
    `<|im_start|>system\nI am.<|im_end|>\n<|im_start|>assistant\nLet me.\n${TOOL_CALL}<|im_end|>\n`;
  const history = History.fromText(text, { chatTemplateName: "qwen" });
  assert.deepEqual(history.messages[1]!.toolCalls, [{ name: "calc", arguments: { e: "2+2" } }]);
  for (const chatTemplateName of ["qwen", "chatml_format"]) {
    const [again] = history.applyChatTemplate({ chatTemplateName, addGenerationPrompt: false });
    assert.equal(again, text);
  }
});

// case 116

Deno.test("a call that is not JSON stays in the content", () => {
  const text = "<|im_start|>assistant\n<tool_call>\n{bad}\n</tool_call><|im_end|>";
  const [message] = History.fromText(text, { chatTemplateName: "qwen" }).messages;
  assert.equal(message!.toolCalls, null);
  assert.equal(message!.content, "<tool_call>\n{bad}\n</tool_call>");
});

// case 116

Deno.test("tool calls and responses given as data render once", () => {
  const [text] = History.fromChats([
    { role: "user", content: "q" },
    { role: "assistant", content: "", toolCalls: [{ name: "calc", arguments: { e: "2+2" } }] },
    { role: "tool", content: "", toolResponses: ["4", "5"] },
  ]).applyChatTemplate({ chatTemplateName: "qwen", addGenerationPrompt: false });
  assert.equal(text!.split("<tool_call>").length, 2);
  assert.ok(text!.includes("<|im_start|>assistant\n<tool_call>\n"));
  assert.ok(text!.endsWith(
    "<|im_start|>tool\n<tool_response>\n4\n</tool_response>\n<tool_response>\n5\n</tool_response><|im_end|>\n",
  ));
});

// case 117

Deno.test("text without a message and unknown templates are refused with a hint", () => {
  assert.throws(
    () => History.fromText("nothing here", { chatTemplateName: "qwen" }),
    (error) => error instanceof ValidationError && /special tokens/.test(error.message),
  );
  assert.throws(
    () => History.fromText("x", { chatTemplateName: "qwem" }),
    new RegExp(`did you mean "qwen"\\? Known are ${families.map(({ name }) => name).join(", ")}`),
  );
});

// case 118

Deno.test("append takes one dimension less, extend the same, in place or not", () => {
  const message = History.message({ role: "user", content: "m" });
  assert.throws(() => message.append(message), /unsqueeze/);
  const chat = message.unsqueeze();
  const longer = chat.append({ role: "assistant", content: "n" }, { inPlace: false });
  assert.deepEqual([chat.shape, longer.shape], [[1], [2]]);
  assert.throws(() => chat.append(chat), /must have one less dimension than self/);
  assert.throws(() => chat.extend(message), /The new history to extend/);
  assert.equal(chat.append({ role: "assistant", content: "n" }), chat);
  assert.deepEqual(chat.shape, [2]);
  const batch = History.fromChats([CHAT, CHAT]);
  batch.append([{ role: "user", content: "1" }, { role: "user", content: "2" }]);
  assert.deepEqual(batch.shape, [2, 3]);
  assert.deepEqual(batch.extend(batch, { inPlace: false }).shape, [4, 3]);
  assert.deepEqual(batch.extend(batch, { inPlace: false, dim: -1 }).shape, [2, 6]);
});

Deno.test('case 119: messages of role "<none>" are not rendered', () => {
  const history = History.fromChats([CHAT, CHAT.slice(0, 1)]).padMessages();
  assert.deepEqual(history.shape, [2, 2]);
  const [, text] = history.applyChatTemplate({
    chatTemplateName: "chatml_format",
    addGenerationPrompt: false,
  });
  assert.equal(text, "<|im_start|>user\nHello<|im_end|>\n");
});

// case 119

Deno.test("uneven responses are filled up, a prompt-only text gives an empty one", () => {
  const prompt = History.fromChats([
    [{ role: "user", content: "a" }],
    [{ role: "user", content: "b" }],
  ]);
  const texts = [
    "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nx<|im_end|>",
    "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\ny<|im_end|>\n<|im_start|>user\nz<|im_end|>\n<|im_start|>assistant\nw<|im_end|>",
  ];
  const uneven = extractResponses(texts, prompt, { chatTemplateName: "qwen" });
  assert.deepEqual(uneven.roles, [["assistant", "<none>", "<none>"], [
    "assistant",
    "user",
    "assistant",
  ]]);
  const none = extractResponses(
    ["<|im_start|>user\na<|im_end|>", "<|im_start|>user\nb<|im_end|>"],
    prompt,
    {
      chatTemplateName: "qwen",
    },
  );
  assert.deepEqual([none.roles, none.contents], [[["assistant"], ["assistant"]], [[""], [""]]]);
});

// case 120

Deno.test("a custom template needs a generation block", () => {
  assert.throws(() => addChatTemplate("case120", { template: "{{ x }}" }), /generation/);
});

// case 121

Deno.test("text and tokens of a chat are split at the end of the prompt", async () => {
  const chat = new ChatHistory({
    prompt: History.fromChats([CHAT.slice(0, 1)]),
    full: History.fromChats([CHAT]),
  });
  const options = { tokenizer: named("gpt2") };
  const text = chatToText(chat, options);
  assert.equal(text.only("response"), "Hi there!<|im_end|>\n");
  assert.equal(text.only("prompt") + text.only("response"), text.only("full"));
  const tokens = await chatToTokens(chat, options);
  assert.deepEqual(
    [tokens.only("prompt").length, tokens.only("response").length, tokens.only("full").length],
    [24, 11, 35],
  );
  const other = new ChatHistory({
    prompt: History.fromChats([[{ role: "user", content: "ZZ" }]]),
    full: History.fromChats([CHAT]),
  });
  assert.throws(() => chatToText(other, options), /Full text does not start with prompt text/);
});

// case 122

Deno.test("padded tokens have no text", async () => {
  const tokens = new Tokens({ full: [Int32Array.of(1), Int32Array.of(1, 2)] }).pad({ padId: 0 });
  await assert.rejects(tokensToText(tokens, { tokenizer: bytes }), /Padded tokens/);
});

for (const batchShape of [[2], [2, 2]]) {
  // case 123
  Deno.test(`history to text and tokens and back keeps contents, batch (${batchShape})`, async () => {
    const chats = Array.from({ length: batchShape.reduce((a, b) => a * b) }, (_, i) => [
      { role: "user", content: `question ${i}` },
      { role: "assistant", content: `answer ${i}` },
    ]);
    const history = History.fromRows(chats, batchShape);
    const options = { tokenizer: bytes, chatTemplateName: "chatml_format" };
    const full = history.applyChatTemplate({ ...options, addGenerationPrompt: false });
    const text = new Text({ full }, batchShape);
    const fromText = textToHistory(text, options);
    const fromTokens = await tokensToHistory(
      await textToTokens(text, { tokenizer: bytes }),
      options,
    );
    for (const again of [fromText, fromTokens]) {
      assert.deepEqual(again.shape, [...batchShape, 2]);
      assert.deepEqual(again.contents, history.contents);
      assert.deepEqual(again.roles, history.roles);
    }
  });
}

// case 124

Deno.test("a chat cut by ten characters has as many messages, the last incomplete", () => {
  const [text] = History.fromChats(CHAT).applyChatTemplate({
    chatTemplateName: "chatml_format",
    addGenerationPrompt: false,
  });
  const { messages } = History.fromText(text!.slice(0, -10));
  assert.deepEqual(messages.map(({ isComplete }) => isComplete), [true, false]);
});

Deno.test("rendered chats of every named template parse back", () => {
  const tokenizer = named("x", { specialTokens: { ...bytes.specialTokens, bosToken: "<|bos|>" } });
  for (const { name: chatTemplateName } of families) {
    const chat = [...CHAT, { role: "user", content: "More" }];
    const [text] = History.fromChats(chat).applyChatTemplate({
      chatTemplateName,
      tokenizer,
      addGenerationPrompt: false,
    });
    const parsed = History.fromText(text!, { chatTemplateName }).messages
      .filter(({ role }) => role !== "system")
      .map(({ role, content }) => ({ role, content }));
    assert.deepEqual(parsed, chat, chatTemplateName);
  }
});
