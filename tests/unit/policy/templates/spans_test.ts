import assert from "node:assert/strict";
import fc from "fast-check";
import type { Message } from "../../../../src/policy/chat.ts";
import { renderWithSpans } from "../../../../src/policy/templates/spans.ts";

/** Templates that write the answers of tools in ways of their own; `§` stands where others speak. */
const templates: Readonly<Record<string, string>> = {
  "writes them in turns of their own":
    `{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}{% for c in m.tool_calls or [] %}` +
    `<call>{{ c.function.name }}</call>{% endfor %}<|end|>\n{% endfor %}` +
    `{% if add_generation_prompt %}<|assistant|>{% endif %}`,
  "writes them where it writes the calls, as Gemma 4":
    `{% for m in messages %}{% if m.role != 'tool' %}{% set i = loop.index0 %}` +
    `{% if m.role == 'user' or loop.first or messages[i - 1].role == 'user' %}` +
    `<|turn>{{ m.role }}\n{% endif %}` +
    `{% for c in m.tool_calls or [] %}<|call>{{ c.function.name }}<call|>{% endfor %}` +
    `{% set ns = namespace(open=true) %}{% for f in messages[i + 1:] %}` +
    `{% if f.role != 'tool' %}{% set ns.open = false %}{% endif %}` +
    `{% if ns.open and m.tool_calls %}<|answer>{{ f.content }}<answer|>{% endif %}{% endfor %}` +
    `{{ m.content or '' }}{% if not m.tool_calls %}<turn|>\n{% endif %}{% endif %}{% endfor %}` +
    `{% if add_generation_prompt and messages[-1].role != 'tool' %}<|turn>assistant\n{% endif %}`,
  "writes them there, and opens each answer behind them though no prompt does, as DiffusionGemma":
    `{% for m in messages %}{% if m.role != 'tool' %}{% set i = loop.index0 %}` +
    `{% if loop.first or messages[i - 1].role != 'assistant' %}<|turn>{{ m.role }}\n{% endif %}` +
    `{% for c in m.tool_calls or [] %}<|call>{{ c.function.name }}<call|>{% endfor %}` +
    `{% set ns = namespace(open=true) %}{% for f in messages[i + 1:] %}` +
    `{% if f.role != 'tool' %}{% set ns.open = false %}{% endif %}` +
    `{% if ns.open and m.tool_calls %}<|answer>{{ f.content }}<answer|>{% endif %}{% endfor %}` +
    `{{ m.content or '' }}{% if not m.tool_calls %}<turn|>\n{% endif %}{% endif %}{% endfor %}` +
    `{% if add_generation_prompt and messages[-1].role != 'tool' %}<|turn>assistant\n{% endif %}`,
  "writes them there, and drops the thoughts of earlier rounds":
    `{% set ns = namespace(last=-1, open=true) %}{% for m in messages %}{% if m.role == 'user' %}` +
    `{% set ns.last = loop.index0 %}{% endif %}{% endfor %}` +
    `{% for m in messages %}{% if m.role != 'tool' %}{% set i = loop.index0 %}` +
    `{% if loop.first or messages[i - 1].role == 'user' or m.role == 'user' %}` +
    `<|turn>{{ m.role }}\n{% endif %}` +
    `{% if m.reasoning_content and i > ns.last %}<|think>{{ m.reasoning_content }}<think|>{% endif %}` +
    `{% for c in m.tool_calls or [] %}<|call>{{ c.function.name }}<call|>{% endfor %}` +
    `{% set ns.open = true %}{% for f in messages[i + 1:] %}` +
    `{% if f.role != 'tool' %}{% set ns.open = false %}{% endif %}` +
    `{% if ns.open and m.tool_calls %}<|answer>{{ f.content }}<answer|>{% endif %}{% endfor %}` +
    `{{ m.content or '' }}{% if not m.tool_calls %}<turn|>\n{% endif %}{% endif %}{% endfor %}` +
    `{% if add_generation_prompt and messages[-1].role != 'tool' %}<|turn>assistant\n{% endif %}`,
  "closes them in the next turn, as DeepSeek V3":
    `{% set ns = namespace(tool=false) %}{% for m in messages %}` +
    `{% if m.role == 'user' %}<|User|>{{ m.content }}{% endif %}` +
    `{% if m.role == 'assistant' %}{% if ns.tool %}<answers_end>{% set ns.tool = false %}` +
    `{% else %}<|Assistant|>{% endif %}{{ m.content or '' }}` +
    `{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}</call>{% endfor %}<|end|>{% endif %}` +
    `{% if m.role == 'tool' %}{% if not ns.tool %}<answers>{% endif %}{% set ns.tool = true %}` +
    `<answer>{{ m.content }}</answer>{% endif %}{% endfor %}` +
    `{% if ns.tool %}<answers_end>{% elif add_generation_prompt %}<|Assistant|>{% endif %}`,
};

const said = fc.stringMatching(/^[A-Z][a-z <>"\n]{0,8}[a-z.]$/);
const call = { id: "c", type: "function", function: { name: "look", arguments: {} } };

/** A user's word, a loop of calls, and a last answer. */
const round = fc.tuple(
  said,
  fc.array(
    fc.tuple(
      fc.boolean(),
      said,
      fc.array(said, {
        minLength: 1,
        maxLength: 2,
      }),
      fc.boolean(),
    ),
    { maxLength: 3 },
  ),
  said,
).map(([question, loop, last]): Message[] => [
  { role: "user", content: `U${question}` },
  ...loop.flatMap(([speaks, words, answers, thinks]): Message[] => [
    {
      role: "assistant",
      content: speaks ? `A${words}` : null,
      tool_calls: answers.map(() => call),
      ...(thinks ? { reasoning_content: "hm so" } : {}),
    },
    ...answers.map((answer) => ({ role: "tool", content: `T${answer}`, tool_call_id: "c" })),
  ]),
  { role: "assistant", content: `A${last}` },
]);
const dialogs = fc.array(round, { minLength: 1, maxLength: 3 }).map((rounds) => rounds.flat());

for (const [name, template] of Object.entries(templates)) {
  Deno.test(`what tools answered is not the assistant's, whose words and calls are: it ${name}`, () => {
    fc.assert(
      fc.property(dialogs, (messages) => {
        const { text, spans } = renderWithSpans(messages, { template, addGenerationPrompt: false });
        const marked = spans.map(({ start, end }) => text.slice(start, end)).join("");
        const words = messages.flatMap(({ role, content, tool_calls }) =>
          role === "assistant" ? [{ content: content as string | null, tool_calls }] : []
        );
        let rest = marked;
        for (
          const token of [
            "<|end|>",
            "<turn|>",
            "<call>look</call>",
            "<|call>look<call|>",
            "<|think>hm so<think|>",
          ]
        ) {
          rest = rest.replaceAll(token, "");
        }
        // Nothing else is marked, and all that it said is.
        assert.equal(
          rest.replaceAll("\n", ""),
          words.map(({ content }) => content ?? "").join("")
            .replaceAll("\n", ""),
        );
        const calls = words.reduce((sum, { tool_calls }) => sum + (tool_calls?.length ?? 0), 0);
        assert.equal(marked.split("look").length - 1, calls);
      }),
      { numRuns: 150 },
    );
  });
}

Deno.test("an assistant that says nothing loses no conversation, whatever the template", () => {
  const others = {
    "has generation blocks":
      "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}" +
      "{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}",
    "leaves out empty messages":
      "{% for m in messages %}{% if m.content %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}",
    "does not loop over messages":
      "{% for i in range(messages | length) %}<|{{ messages[i].role }}|>{{ messages[i].content }}<|end|>{% endfor %}",
  };
  for (const [name, template] of Object.entries({ ...templates, ...others })) {
    for (const content of ["", " ", null]) {
      const messages: Message[] = [
        { role: "user", content: "QUESTION" },
        { role: "assistant", content },
        { role: "user", content: "QUESTION" },
        { role: "assistant", content: "Yes" },
      ];
      if (content === null && name in others) continue;
      const { text, spans } = renderWithSpans(messages, { template, addGenerationPrompt: false });
      const marked = spans.map(({ start, end }) => text.slice(start, end)).join("");
      assert.ok(marked.includes("Yes"), `${name}: ${marked}`);
      assert.equal(marked.includes("QUESTION"), false, `${name}: ${marked}`);
    }
  }
});

Deno.test("two assistants in a row have one turn, where the template goes on with it", () => {
  const template = `{% for m in messages %}` +
    `{% if loop.first or messages[loop.index0 - 1].role != m.role %}<|turn>{{ m.role }}\n{% endif %}` +
    `{{ m.content }}{% if loop.last or messages[loop.index0 + 1].role != m.role %}<turn|>\n{% endif %}` +
    `{% endfor %}{% if add_generation_prompt %}<|turn>assistant\n{% endif %}`;
  const messages: Message[] = [
    { role: "user", content: "hi" },
    { role: "assistant", content: "one" },
    { role: "assistant", content: "two" },
    { role: "user", content: "so" },
    { role: "assistant", content: "three" },
  ];
  const { text, spans } = renderWithSpans(messages, { template, addGenerationPrompt: false });
  assert.deepEqual(
    spans.map(({ start, end }) => text.slice(start, end)),
    ["one", "two<turn|>", "three<turn|>"],
  );
});

Deno.test("a template that shows nothing of what an assistant wrote is an error, never an empty mask", () => {
  const wantsParts =
    "{% for m in messages %}<|{{ m.role }}|>{% for part in m.content %}{{ part['text'] }}{% endfor %}" +
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
  const knowsNoCalls =
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}<|end|>{% endfor %}" +
    "{% if add_generation_prompt %}<|assistant|>{% endif %}";
  const marking = (template: string, content: Message["content"], more = {}) => () =>
    renderWithSpans([{ role: "user", content: "hi" }, { role: "assistant", content, ...more }], {
      template,
      addGenerationPrompt: false,
    });
  assert.throws(marking(wantsParts, "yes"), /shows nothing .* message 1.*contents as parts/);
  // What is marked is what is shown: an end, where a template knows no calls.
  const called = marking(knowsNoCalls, null, { tool_calls: [call] })();
  assert.deepEqual(called.spans.map(({ start, end }) => called.text.slice(start, end)), [
    "<|end|>",
  ]);
  const parts = [{ type: "text", text: "yes" }];
  const { text, spans } = marking(wantsParts, parts)();
  assert.deepEqual(spans.map(({ start, end }) => text.slice(start, end)), ["yes<|end|>"]);
});

Deno.test("a mask that would leave out words, or hold others' words, is an error", () => {
  // The answer of a tool stands in the assistant's turn with nothing around it.
  const template = "{% for m in messages %}{% if m.role != 'tool' %}<|{{ m.role }}|>" +
    "{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.function.name }}" +
    "{% for f in messages if f.role == 'tool' %}{{ f.content | upper }}{% endfor %}{% endfor %}" +
    "{{ 'x' if not loop.last else 'y' }}<|end|>{% endif %}{% endfor %}" +
    "{% if add_generation_prompt %}<|assistant|>{% endif %}";
  const messages: Message[] = [
    { role: "user", content: "hi" },
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", content: "12 degrees" },
  ];
  let marked = "";
  try {
    const { text, spans } = renderWithSpans(messages, { template, addGenerationPrompt: false });
    marked = spans.map(({ start, end }) => text.slice(start, end)).join("");
  } catch (error) {
    assert.match(String(error), /cannot be told from the rest/);
  }
  assert.doesNotMatch(marked, /DEGREES/);
});

Deno.test("an assistant without a block right behind one that has it is an error", () => {
  const template = "{% for m in messages %}{% if m.content %}{% generation %}{{ m.content }}" +
    "{% endgeneration %}{% else %}{{ m.tool_calls[0].function.name }}{% endif %}{% endfor %}";
  const messages: Message[] = [
    { role: "assistant", content: "yes" },
    { role: "assistant", content: null, tool_calls: [call] },
  ];
  assert.throws(
    () => renderWithSpans(messages, { template, addGenerationPrompt: false }),
    /message 1/,
  );
});
