/** The built-in templates: what they write is read back. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ValidationError } from "../../../../src/errors.ts";
import type { Message } from "../../../../src/policy/chat.ts";
import { families } from "../../../../src/policy/templates/families/mod.ts";
import { parseChat } from "../../../../src/policy/templates/parse.ts";
import { renderChat } from "../../../../src/policy/templates/render.ts";

const specialTokens = { bosToken: "<s>", eosToken: "</s>", padToken: null };
const word = fc.stringMatching(/^[a-z0-9,.!? ]{0,12}[a-z0-9]$/).map((text) => text.trim());
const pairs = fc.array(fc.tuple(word, word), { minLength: 1, maxLength: 3 });

for (const { name, template } of families) {
  // DialoGPT writes no roles.
  if (name === "dialogpt") continue;
  Deno.test(`what ${name} writes is read back, role by role`, () => {
    // DeepSeek writes what a system says as a text without a role.
    const anySystem = name === "deepseek" ? fc.constant(null) : fc.option(word, { nil: null });
    fc.assert(fc.property(anySystem, pairs, (system, pairs) => {
      const messages: Message[] = [
        ...(system === null ? [] : [{ role: "system", content: system }]),
        ...pairs.flatMap(([asked, answered]) => [
          { role: "user", content: asked },
          { role: "assistant", content: answered },
        ]),
      ];
      const text = renderChat(messages, { template, specialTokens, addGenerationPrompt: false });
      const read = parseChat(text, name);
      const withoutSystem = (list: readonly Message[]) =>
        list.filter(({ role }) => system !== null || role !== "system")
          .map(({ role, content }) => ({ role, content }));
      assert.deepEqual(withoutSystem(read), withoutSystem(messages));
    }));
  });
}

Deno.test("a text without a message is an error, not an empty conversation", () => {
  for (const { name } of families.filter(({ name }) => name !== "dialogpt")) {
    assert.throws(() => parseChat("", name), ValidationError, name);
  }
});
