import assert from "node:assert/strict";
import fc from "fast-check";
import { chooseTemplate, History, type Message } from "../../../src/policy/chat.ts";
import { LocalTokenizer } from "../../../src/policy/mod.ts";
import { SGLangError } from "../../../src/errors.ts";

const CHAT = [{ role: "user", content: "Hello" }, { role: "assistant", content: "Hi there!" }];

Deno.test("a template's own refusal names the reason", () => {
  assert.throws(
    () =>
      History.fromChats(CHAT).applyChatTemplate({
        chatTemplate: "{{ raise_exception('roles must alternate') }}",
      }),
    (error) => error instanceof SGLangError && /roles must alternate/.test(error.message),
  );
});

Deno.test("OpenAI's messages render as they are, and nothing is dropped in silence", () => {
  const template =
    "{% for m in messages %}[{{ m.role }}|{{ m.content is defined }}|{{ m.content }}" +
    "|{{ m.reasoning_content }}{% for c in m.tool_calls or [] %}|{{ c.function.name }} " +
    "{{ c.function.arguments | tojson }} {{ '' + c.function.arguments }}{% endfor %}]{% endfor %}";
  const render = (...chat: Record<string, unknown>[]) =>
    History.fromChats([chat as never]).applyChatTemplate({ chatTemplate: template })[0];
  const call = (args: unknown) => ({ type: "function", function: { name: "f", arguments: args } });
  const written = '{"a": 1.0, "b": "é"}';
  assert.equal(
    render({ role: "assistant", content: null, tool_calls: [call(written)] }),
    `[assistant|False|||f ${written} ${written}]`,
  );
  for (const toolCalls of [[call({ a: 1 })], [{ name: "f", arguments: { a: 1 } }]]) {
    assert.equal(
      render({ role: "assistant", content: "x", toolCalls, reasoning: "r" }),
      '[assistant|True|x|r|f {"a": 1} {"a": 1}]',
    );
  }
  const parts = [{ type: "text", text: "a" }, { type: "text", text: "b" }];
  assert.equal(render({ role: "user", content: parts }), "[user|True|a b|]");
  const image = { type: "image_url", image_url: { url: "data:" } };
  assert.throws(() => render({ role: "user", content: [image] }), /part 0 is of type "image_url"/);
  assert.throws(
    () => render({ role: "user", content: "a", toolcalls: [] }),
    /did you mean "toolCalls"/,
  );
});

Deno.test("a last message can be gone on with", () => {
  const template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}";
  const [text] = History.fromChats([[{ role: "user", content: "q" }, {
    role: "assistant",
    content: "So far ",
  }]]).applyChatTemplate({ chatTemplate: template, continueFinalMessage: true });
  assert.equal(text, "<user>q<end><assistant>So far ");
  assert.throws(
    () =>
      History.fromChats([[{ role: "user", content: "q" }]]).applyChatTemplate({
        chatTemplate: template,
        continueFinalMessage: true,
        addGenerationPrompt: true,
      }),
    /exclude each other/,
  );
});

Deno.test("only what is gone on with is open, also where another field says the same", () => {
  const template =
    "{% for m in messages %}({{ m.reasoning_content }}){{ m.content }}<end>{% endfor %}";
  const rendered = (message: Message, continueFinalMessage: boolean | string = true) =>
    History.fromChats([[message]]).applyChatTemplate({
      chatTemplate: template,
      continueFinalMessage,
    })[0];
  fc.assert(
    fc.property(fc.constantFrom("a", "", " ", "\u0085", "\ufeff", "\u2028 x"), (said) => {
      const message = { role: "assistant", content: said, reasoning_content: said };
      assert.equal(rendered(message), `(${said})${said}`);
      assert.equal(rendered(message, "reasoning_content"), `(${said}`);
      assert.equal(
        rendered({ role: "assistant", content: "x", thinking: said }, "thinking"),
        `(${said}`,
      );
    }),
  );
  const wrong = { role: "assistant", content: "x", note: "y" };
  assert.throws(() => rendered(wrong, "note"), /reads no "note"/);
});

Deno.test("an error says whether the template or the conversation is at fault", () => {
  const rendered = (template: string, message: Message = { role: "user", content: "a" }) =>
    History.fromChats([message]).applyChatTemplate({ chatTemplate: template })[0];
  for (
    const template of [
      "{% for m in messages %}",
      "{{ m.content }",
      "{% nonsense %}",
      "{% include 'x' %}",
      "{% import 'x' as y %}",
      "{% from 'x' import y %}",
      "{% extends 'x' %}",
    ]
  ) {
    assert.throws(
      () => rendered(template),
      /^ValidationError: The chat template is wrong, whatever/,
    );
  }
  assert.throws(() => rendered("{% include 'x' %}"), /must hold all that it needs/);
  assert.throws(() => rendered("{{ raise_exception('no') }}"), /refused this conversation: no$/);
  assert.throws(() => rendered("{{ a.b.c }}"), /failed on this conversation.*UndefinedError/);
  for (const empty of ["", " \n"]) {
    assert.throws(() => rendered(empty), /ChatTemplate is empty: give a source/);
  }
});

Deno.test("of several templates of a model the default is taken, never the first", async () => {
  const file = new URL("../../fixtures/policy/byte_level/tokenizer.json", import.meta.url);
  const tokenizer = JSON.parse(await Deno.readTextFile(file));
  const named = fc.dictionary(
    fc.constantFrom("rag", "tool_use", "default", "x"),
    fc.stringMatching(/^[A-Z]{1,4}$/),
  );
  fc.assert(
    fc.property(named, fc.boolean(), (templates, hasTools) => {
      const chat_template = Object.entries(templates).map(([name, template]) => ({
        name,
        template,
      }));
      const model = new LocalTokenizer({
        tokenizer,
        config: { chat_template },
        name: "some/model",
      });
      const choose = () => chooseTemplate({ tokenizer: model, hasTools });
      const own = hasTools && templates.tool_use || templates.default;
      if (own !== undefined) assert.equal(choose().template, own);
      else if (chat_template.length === 0) assert.notEqual(choose().guess, null);
      else assert.throws(choose, /none of them is the default.*model:/);
    }),
  );
});
