import assert from "node:assert/strict";
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
