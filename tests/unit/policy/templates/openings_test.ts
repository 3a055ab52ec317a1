import assert from "node:assert/strict";
import fc from "fast-check";
import type { Message } from "../../../../src/policy/chat.ts";
import { renderWithSpans } from "../../../../src/policy/templates/spans.ts";

/** Templates that open an assistant's turn in ways of their own. */
const templates: Readonly<Record<string, string>> = {
  "counts the places of the messages, as EXAONE 4":
    `{% for i in range(messages | length) %}{% set m = messages[i] %}[|{{ m.role }}|]` +
    `{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}[|assistant|]{% endif %}`,
  "counts them from another place on":
    `{% set first = 0 %}{% for i in range(first, messages | length) %}<|{{ messages[i].role }}|>` +
    `{{ messages[i].content }}<|end|>{% endfor %}` +
    `{% if add_generation_prompt %}<|assistant|>{% endif %}`,
  "begins the answer in the prompt, as Apriel":
    `{% for m in messages %}<|begin_{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}` +
    `{% if add_generation_prompt %}\n<|begin_assistant|>\nHere are my steps:\n{% endif %}`,
  "closes thoughts in the prompt that a history leaves open, as Hy3":
    `{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}` +
    `<think:x>hm</think:x>{% endif %}{{ m.content }}<|end|>{% endfor %}` +
    `{% if add_generation_prompt %}<|assistant|><think:x></think:x>{% endif %}`,
  "writes the name of who speaks, as Kimi K2":
    `{% for m in messages %}<|im_{{ m.role }}|>{{ m.name or m.role }}<|mid|>{{ m.content }}<|end|>` +
    `{% endfor %}{% if add_generation_prompt %}<|im_assistant|>assistant<|mid|>{% endif %}`,
  "opens no turn behind a tool's answer, as Apertus":
    `{% set ns = namespace(tool=false) %}{% for m in messages %}` +
    `{% if m.role == 'tool' %}{{ ', ' if ns.tool else '[' }}{{ m.content }}{% set ns.tool = true %}` +
    `{% else %}{{ ']' if ns.tool }}{% if m.role == 'user' or not ns.tool %}<|{{ m.role }}|>` +
    `{% endif %}{% set ns.tool = false %}{{ m.content }}<|end|>{% endif %}{% endfor %}` +
    `{{ ']' if ns.tool }}{% if add_generation_prompt %}<|assistant|>{% endif %}`,
};

const word = fc.stringMatching(/^[A-Z][a-z]{2,6}( [a-z]{1,5}){0,2}$/);
const conversation = fc.array(
  fc.tuple(word, fc.array(word, { maxLength: 2 }), word, fc.option(fc.constantFrom("bot", "eve"))),
  { minLength: 1, maxLength: 4 },
);

for (const [name, template] of Object.entries(templates)) {
  Deno.test(`an assistant's words are marked, and nobody else's, where a template ${name}`, () => {
    fc.assert(
      fc.property(conversation, (rounds) => {
        const messages = rounds.flatMap(([asked, answers, said, who], at): Message[] => [
          { role: "user", content: `Q${at} ${asked}` },
          ...answers.map((content, n) => ({ role: "tool", content: `T${at}.${n} ${content}` })),
          { role: "assistant", content: `A${at} ${said}`, ...(who === null ? {} : { name: who }) },
        ]);
        const { text, spans } = renderWithSpans(messages, { template, addGenerationPrompt: false });
        const marked = spans.map(({ start, end }) => text.slice(start, end).trim());
        const wanted = rounds.map(([, , said], at) => `A${at} ${said}<|end|>`);
        const thoughts = template.includes("hm</think:x>") ? "<think:x>hm</think:x>" : "";
        assert.deepEqual(marked, wanted.map((one) => thoughts + one));
      }),
      { numRuns: 50 },
    );
  });
}
