import assert from "node:assert/strict";
import fc from "fast-check";
import { characterOfByte } from "../../../src/internal/token_encoder/characters.ts";
import { makeTokenEncoder } from "../../../src/internal/token_encoder/encoder.ts";
import { onigPattern } from "../../../src/internal/token_encoder/onig_pattern.ts";

/** How Qwen cuts texts. */
const qwen =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" +
  "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

function model(merges: readonly (readonly [string, string])[], more = {}) {
  const tokens = new Set([...characterOfByte, ...merges.flatMap(([a, b]) => [a, b, a + b])]);
  const vocab = Object.fromEntries([...tokens].map((token, id) => [token, id]));
  return { type: "BPE", vocab, merges, ...more };
}

function byteLevel(merges: readonly (readonly [string, string])[], more = {}) {
  return {
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: false },
    post_processor: null,
    added_tokens: [],
    model: model(merges),
    ...more,
  };
}

Deno.test("texts are cut at the white space of Python's tokenizers, not of JavaScript", () => {
  const cut = (text: string) => text.match(onigPattern(qwen));
  // What Python's tokenizers 0.23.3 gives.
  assert.deepEqual(cut("a\u0085\u0085b"), ["a", "\u0085", "\u0085b"]);
  assert.deepEqual(cut("a\ufeff\ufeff!b"), ["a", "\ufeff\ufeff!", "b"]);
  assert.deepEqual(cut("IT'\u017f it's"), ["IT", "'\u017f", " it", "'s"]);
  assert.deepEqual("a\nb\rc".match(onigPattern("^.+$")), ["a", "b\rc"]);
  assert.deepEqual("x\u00b2 \u00b2_é9".match(onigPattern("\\w+")), ["x\u00b2", "\u00b2_é9"]);
  assert.deepEqual("aaab aab".match(onigPattern("a++b")), ["aaab", "aab"]);
  assert.equal("aaa".match(onigPattern("(?>a+)a")), null);
});

Deno.test("pairs merge by rank, then from left to right, in words of any length", () => {
  const letters = ["a", "b", "c"];
  const pair = fc.tuple(fc.constantFrom(...letters), fc.constantFrom(...letters));
  const lists = fc.array(pair, { maxLength: 6 }).chain((first) => {
    const made = [...letters, ...first.map(([a, b]) => a + b)];
    return fc.array(fc.tuple(fc.constantFrom(...made), fc.constantFrom(...made)), { maxLength: 8 })
      .map((more) => [...first, ...more]);
  }).map((all) => [...new Map(all.map((one) => [one.join(" "), one])).values()]);
  fc.assert(
    fc.property(
      lists,
      fc.array(fc.constantFrom(...letters), { maxLength: 150 }),
      (merges, word) => {
        const file = byteLevel(merges);
        const ids = [...makeTokenEncoder(file)!.encode(word.join(""), false)];
        // The slow way, one merge after the other.
        let symbols: string[] = [...word];
        while (true) {
          let best = -1;
          let rank = Infinity;
          symbols.slice(1).forEach((right, at) => {
            const found = merges.findIndex(([a, b]) => a === symbols[at] && b === right);
            if (found >= 0 && found < rank) [best, rank] = [at, found];
          });
          if (best < 0) break;
          symbols = symbols.toSpliced(best, 2, symbols[best]! + symbols[best + 1]!);
        }
        assert.deepEqual(ids, symbols.map((symbol) => file.model.vocab[symbol]));
      },
    ),
  );
});

Deno.test("a word of a million characters takes seconds at most, and others none", () => {
  const file = byteLevel([["a", "b"], ["ab", "ab"], ["abab", "abab"]]);
  const ids = makeTokenEncoder(file)!.encode("ab".repeat(2 ** 18), false);
  assert.equal(ids.length, 2 ** 18 / 4);
});

Deno.test("a tokenizer that is broken is an error, one of other parts is left to others", () => {
  const broken = { ...model([]), merges: [["a", "nothing"]] };
  assert.throws(
    () => makeTokenEncoder(byteLevel([], { model: broken })),
    /nothing.*not in its vocab/,
  );
  assert.throws(
    () => makeTokenEncoder(byteLevel([], { added_tokens: [{ content: "<s>" }] })),
    /added_tokens must have an id/,
  );
  assert.equal(makeTokenEncoder(byteLevel([], { model: { type: "Unigram", vocab: [] } })), null);
  assert.equal(makeTokenEncoder(byteLevel([], { normalizer: { type: "Precompiled" } })), null);
});

Deno.test("tokens around a text are those that the file names, and only when asked for", () => {
  const file = byteLevel([], {
    added_tokens: [{ id: 900, content: "<s>", special: true }],
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>" } }, { Sequence: { id: "A" } }],
      special_tokens: { "<s>": { id: "<s>", ids: [900] } },
    },
  });
  const encoder = makeTokenEncoder(file)!;
  assert.deepEqual([...encoder.encode("<s>", true)], [900, 900]);
  assert.deepEqual([...encoder.encode("<s>", false)], [900]);
  assert.equal(encoder.idOf("<s>"), 900);
  assert.equal(encoder.idOf("<nothing>"), null);
});
