import assert from "node:assert/strict";
import { ValidationError } from "../../../../src/errors.ts";
import type { Message } from "../../../../src/policy/message.ts";
import { renderChat } from "../../../../src/policy/templates/render.ts";

const plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
const parts = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}";

const wrong: readonly [unknown, RegExp][] = [
  [[null], /^Message 1, part 0 is null; a text part is/],
  [new Array(1), /^Message 1, part 0 is undefined/],
  [[{ type: "text", text: "a" }, 5], /^Message 1, part 1 is the number 5/],
  [["a"], /^Message 1, part 0 is the string a/],
  [[[]], /^Message 1, part 0 is an array/],
  [[{}], /^Message 1, part 0 has no type/],
  [[{ type: "text" }], /^Message 1, part 0 has no text, but undefined; a text part is/],
  [[{ type: "text", text: 5 }], /^Message 1, part 0 has no text, but the number 5/],
  [[{ type: "image", image: "x" }], /^Message 1, part 0 is of type "image"; only text parts/],
  [
    5,
    /^The content of message 1 must be a text, null, or an array of text parts, got the number 5/,
  ],
  [true, /content of message 1 .* got the boolean true/],
  [{}, /content of message 1 .* got an object/],
];

Deno.test("a content that is neither text nor text parts is an error with its message and part", () => {
  for (const [content, message] of wrong) {
    for (const role of ["user", "assistant", "tool"]) {
      for (const template of [plain, parts]) {
        const chat = [{ role: "user", content: "hi" }, { role, content }] as Message[];
        assert.throws(
          () => renderChat(chat, { template, addGenerationPrompt: true }),
          (error: Error) => error instanceof ValidationError && message.test(error.message),
          `${Deno.inspect(content)} ${role}`,
        );
      }
    }
  }
  for (const message of [null, undefined, 5, "hi", []]) {
    const chat = [message] as unknown as Message[];
    assert.throws(
      () => renderChat(chat, { template: plain, addGenerationPrompt: true }),
      (error: Error) => error instanceof ValidationError && /^Message 0 must/.test(error.message),
    );
  }
});

Deno.test("an empty list of calls stays in OpenAI's shape, as Python's templates see it", () => {
  const template = "{{ messages[0].tool_calls is defined }}";
  const render = (message: Partial<Message>) =>
    renderChat([{ role: "assistant", content: "x", ...message }], {
      template,
      addGenerationPrompt: false,
    });
  assert.equal(render({ tool_calls: [] }), "True");
  assert.equal(render({ toolCalls: [] }), "False");
  assert.equal(render({}), "False");
});
