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
    ),
    { maxLength: 3 },
  ),
  said,
).map(([question, loop, last]): Message[] => [
  { role: "user", content: `U${question}` },
  ...loop.flatMap(([speaks, words, answers]): Message[] => [
    {
      role: "assistant",
      content: speaks ? `A${words}` : null,
      tool_calls: answers.map(() => call),
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
        for (const token of ["<|end|>", "<turn|>", "<call>look</call>", "<|call>look<call|>"]) {
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
