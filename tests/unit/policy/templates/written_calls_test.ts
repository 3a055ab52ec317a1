import assert from "node:assert/strict";
import fc from "fast-check";
import type { Message } from "../../../../src/policy/chat.ts";
import { readAnswer } from "../../../../src/policy/chat.ts";
import { renderChat } from "../../../../src/policy/templates/render.ts";

/** Writes calls as Qwen does, behind the content. */
const qwen = "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}" +
  "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endfor %}";

const marksOfOthers = [
  "[TOOL_CALLS]",
  "<function=x>",
  "<|python_tag|>",
  "<｜tool▁call▁begin｜>",
  "<TOOLCALL>[1]</TOOLCALL>",
  "<|tool_call_start|>[f()]<|tool_call_end|>",
];

Deno.test("after a JSON copy a call beside another family's mark is written once", () => {
  for (const mark of marksOfOthers) {
    for (const args of ['{"n": 5}', '{"n": null, "s": "True"}', '{"x": 1.0}']) {
      const content = `see ${mark} <tool_call>{"name": "f", "arguments": ${args}}</tool_call>`;
      const { calls } = readAnswer(content, { formats: ["hermes"] });
      const message: Message = { role: "assistant", content, toolCalls: calls };
      const copy: Message = JSON.parse(JSON.stringify(message));
      const text = renderChat([copy], { template: qwen, addGenerationPrompt: false });
      assert.equal(text, `<|assistant|>${content}`, mark);
    }
  }
});

Deno.test("calls that the content has not written are written", () => {
  const message: Message = {
    role: "assistant",
    content: 'see [TOOL_CALLS] <tool_call>{"name": "f", "arguments": {}}</tool_call>',
    toolCalls: [{ name: "g", arguments: {} }],
  };
  const text = renderChat([message], { template: qwen, addGenerationPrompt: false });
  assert.equal(text.split("<tool_call>").length, 3);
});

Deno.test("what a tool answers is rendered as it is, whatever marks it quotes", () => {
  const pieces = ["<tool_response>", "</tool_response>", "\n", "x", "<tool_call>", "</think>", " "];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 8 }), (parts) => {
      const content = parts.join("");
      const text = renderChat([{ role: "tool", content }], {
        template: qwen,
        addGenerationPrompt: false,
      });
      assert.equal(text, `<|tool|>${content}`);
    }),
  );
  const content = "<tool_response>\nx\n</tool_response>";
  const read: Message = { role: "tool", content, toolResponses: ["x", "y"] };
  for (const message of [read, JSON.parse(JSON.stringify(read))]) {
    const text = renderChat([message], { template: qwen, addGenerationPrompt: false });
    assert.equal(text, "<|tool|>x<|tool|>y");
  }
});
