import assert from "node:assert/strict";
import fc from "fast-check";
import type { Tokenizer } from "../../../src/policy/mod.ts";
import { PiecewiseTokenizer } from "../../../src/rollout/mod.ts";
import { mergingTokenizer } from "../../_support/turn_templates.ts";

const inner = await mergingTokenizer();

/** The same tokenizer, counting the characters that it is asked about. */
function counted(changes: Partial<Tokenizer> = {}): Tokenizer & { characters: number } {
  return {
    characters: 0,
    name: inner.name,
    chatTemplate: null,
    specialTokens: inner.specialTokens,
    wholeTokens: inner.wholeTokens,
    idOf: (token) => inner.idOf(token),
    encode(text) {
      this.characters += text.length;
      return inner.encode(text);
    },
    decode: (ids) => inner.decode(ids),
    ...changes,
  };
}

Deno.test("ids in pieces are the ids of the whole, whatever the text", async () => {
  const piece = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("<|im_start|>", "<|im_end|>", "<|", "|>", "\n", "hello", " a", "<"),
  );
  await fc.assert(fc.asyncProperty(fc.array(fc.array(piece), { maxLength: 20 }), async (texts) => {
    const tokenizer = new PiecewiseTokenizer(inner);
    for (const text of texts.map((pieces) => pieces.join(""))) {
      assert.deepEqual(await tokenizer.encode(text), inner.encode(text));
    }
  }));
});

Deno.test("a text that grows costs what was added to it", async () => {
  const beneath = counted();
  const tokenizer = new PiecewiseTokenizer(beneath);
  let text = "";
  const costs: number[] = [];
  for (let turn = 0; turn < 100; turn++) {
    const before = beneath.characters;
    text += `<|im_start|>user\nmessage ${turn}<|im_end|>\n`;
    await tokenizer.encode(text);
    costs.push(beneath.characters - before);
  }
  assert.ok(costs.slice(20).every((cost) => cost < 60), `${costs.slice(20)}`);
});

Deno.test("a tokenizer that looks over the borders of special tokens is asked for whole texts", async () => {
  // Its ids depend on how the text begins.
  const encode = (text: string) => inner.encode(text.startsWith("<|im_end|>") ? `!${text}` : text);
  const tokenizer = new PiecewiseTokenizer(counted({ encode }));
  for (let turn = 0; turn < 20; turn++) {
    const text = `a${turn}<|im_end|>b`;
    assert.deepEqual(await tokenizer.encode(text), encode(text));
  }
});

Deno.test("a tokenizer that does not tell its special tokens is asked for whole texts", async () => {
  const beneath = counted({ wholeTokens: undefined });
  const tokenizer = new PiecewiseTokenizer(beneath);
  await tokenizer.encode("<|im_start|>a");
  await tokenizer.encode("<|im_start|>a");
  assert.equal(beneath.characters, 2 * "<|im_start|>a".length);
});
