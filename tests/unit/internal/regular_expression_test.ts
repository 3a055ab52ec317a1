import assert from "node:assert/strict";
import fc from "fast-check";
import { regularExpression, spellOutCases } from "../../../src/internal/regular_expression.ts";

const sources = [
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}",
  "'(?i:[sdmt]|ll|ve|re)",
  "(?i:[a-z]+)k",
  "(?i:a(?-i:b)c|(?<name>k)|[^s])S",
  "(?i:\\u004bel|\\x4b\\u{73}|1-2|[\\x53-])",
];

Deno.test("an expression with its cases spelled out matches as the one with (?i: does", () => {
  const sign = fc.constantFrom(..."'sSſtTrReEvVkK\u212aabcABCzß\u1e9eσςΣåÅ\u212b \n1");
  fc.assert(fc.property(fc.constantFrom(...sources), fc.string({ unit: sign }), (source, text) => {
    const one = [...text.matchAll(new RegExp(source, "gu"))].map(String);
    const other = [...text.matchAll(new RegExp(spellOutCases(source), "gu"))].map(String);
    assert.deepEqual(other, one);
  }));
});

Deno.test("what cannot be spelled out is refused instead of read otherwise", () => {
  for (const source of ["(?i:\\p{Lu})", "(?i:[à-ö])", "(?i:[A-z])", "(?i:é|σ)"]) {
    assert.throws(() => spellOutCases(source), SyntaxError);
  }
  assert.throws(() => regularExpression("(", "u"), SyntaxError);
});
