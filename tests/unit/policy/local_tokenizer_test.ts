import assert from "node:assert/strict";
import { SGLangError } from "../../../src/errors.ts";
import { LocalTokenizer } from "../../../src/policy/mod.ts";

const folder = new URL("../../fixtures/policy/byte_level/", import.meta.url);
const tokenizer = JSON.parse(await Deno.readTextFile(new URL("tokenizer.json", folder)));

Deno.test("special tokens are read as text, and from objects as transformers writes them", () => {
  const tokens = (config: Record<string, unknown>) => {
    const { bosToken, eosToken } = new LocalTokenizer({ tokenizer, config }).specialTokens;
    return [bosToken, eosToken];
  };
  const asObject = { bos_token: { content: "<s>", special: true }, eos_token: { content: "</s>" } };
  assert.deepEqual(tokens({ bos_token: "<s>", eos_token: "</s>" }), ["<s>", "</s>"]);
  assert.deepEqual(tokens(asObject), ["<s>", "</s>"]);
  assert.deepEqual(tokens({ bos_token: null, eos_token: { content: 1 } }), [null, null]);
});

Deno.test("a rule of the file that fails on a text is an error of ours, with a short message", () => {
  const rules: Record<string, unknown>[] = [
    // Longer than a pattern may be, which is noticed at its first use.
    {
      pre_tokenizer: {
        type: "Split",
        pattern: { Regex: "a".repeat(10_000_000) },
        behavior: "Isolated",
        invert: false,
      },
    },
    // The text would be longer than any can be.
    {
      normalizer: { type: "Replace", pattern: { String: "a" }, content: "x".repeat(100_000) },
    },
    { decoder: { type: "Replace", pattern: { String: "a" }, content: "x".repeat(100_000) } },
  ];
  for (const rule of rules) {
    assert.throws(() => {
      const read = new LocalTokenizer({
        tokenizer: {
          added_tokens: [],
          model: { type: "BPE", vocab: { a: 0 }, merges: [] },
          ...rule,
        },
      });
      read.encode("a".repeat(100_000));
      read.decode(new Int32Array(100_000));
    }, (error: Error) => {
      assert.ok(error instanceof SGLangError, String(error).slice(0, 200));
      return error.message.length < 1000;
    });
  }
});
