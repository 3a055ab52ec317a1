import assert from "node:assert/strict";
import fc from "fast-check";
import { replaceWithin } from "../../../src/internal/replaced.ts";
import { makeTokenDecoder } from "../../../src/internal/token_decoder.ts";
import { characterOfByte } from "../../../src/internal/token_encoder/characters.ts";
import { makeTokenEncoder } from "../../../src/internal/token_encoder/encoder.ts";
import { NotKnown } from "../../../src/internal/token_encoder/not_known.ts";
import { makeNormalizer } from "../../../src/internal/token_encoder/normalizers.ts";
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
        const ids = [...makeTokenEncoder(file).encode(word.join(""), false)];
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
  const ids = makeTokenEncoder(file).encode("ab".repeat(2 ** 18), false);
  assert.equal(ids.length, 2 ** 18 / 4);
});

Deno.test("a tokenizer that is broken is an error", () => {
  const broken = { ...model([]), merges: [["a", "nothing"]] };
  assert.throws(
    () => makeTokenEncoder(byteLevel([], { model: broken })),
    /nothing.*not in its vocab/,
  );
  assert.throws(
    () => makeTokenEncoder(byteLevel([], { added_tokens: [{ content: "<s>" }] })),
    /added_tokens must have an id/,
  );
  for (const charsmap of ["AAAA", "not Base64!", "/////w=="]) {
    const normalizer = { type: "Precompiled", precompiled_charsmap: charsmap };
    assert.throws(() => makeTokenEncoder(byteLevel([], { normalizer })), /no table of characters/);
  }
});

/** What is refused when a file is opened, and how it is named. */
const refused: readonly (readonly [named: RegExp, more: Record<string, unknown>])[] = [
  [/the model Markov/, { model: { type: "Markov", vocab: {} } }],
  [/dropout/, { model: model([], { dropout: 0.1 }) }],
  [/the normalizer Rot13/, { normalizer: { type: "Rot13" } }],
  [/the normalizer Rot13/, { normalizer: { type: "Sequence", normalizers: [{ type: "Rot13" }] } }],
  [/an empty pattern/, { normalizer: { type: "Replace", pattern: { String: "" }, content: "a" } }],
  [/between characters/, {
    normalizer: { type: "Replace", pattern: { Regex: "x*" }, content: "a" },
  }],
  [/the regular expression/, {
    normalizer: { type: "Replace", pattern: { Regex: "(?~a)" }, content: "a" },
  }],
  [/the pre-tokenizer UnicodeScripts/, { pre_tokenizer: { type: "UnicodeScripts" } }],
  [/the pre-tokenizer RandomChunkSplit/, { pre_tokenizer: { type: "RandomChunkSplit" } }],
  [/the behavior Sideways/, {
    pre_tokenizer: { type: "Split", pattern: { String: "a" }, behavior: "Sideways" },
  }],
  [/"first" of Metaspace/, {
    normalizer: { type: "Strip" },
    pre_tokenizer: { type: "Metaspace", prepend_scheme: "first" },
  }],
  [/the added token .*leaves nothing/, {
    normalizer: { type: "Strip" },
    added_tokens: [{ id: 900, content: " ", normalized: true }],
  }],
  [/the post-processor Stamp/, { post_processor: { type: "Stamp" } }],
  [/several post-processors/, {
    post_processor: {
      type: "Sequence",
      processors: [
        { type: "BertProcessing", sep: ["b", 2], cls: ["a", 1] },
        { type: "BertProcessing", sep: ["b", 2], cls: ["a", 1] },
      ],
    },
  }],
];

for (const [named, more] of refused) {
  Deno.test(`what gives other ids than Python is refused by name: ${named.source}`, () => {
    assert.throws(() => makeTokenEncoder(byteLevel([], more)), (error) => {
      assert.ok(error instanceof NotKnown);
      assert.match(error.message, named);
      assert.match(error.message, /the server makes the ids/);
      return true;
    });
  });
}

Deno.test("Unigram takes the likeliest pieces, WordPiece the longest, WordLevel whole words", () => {
  const idsOf = (file: Record<string, unknown>, text: string) => [
    ...makeTokenEncoder({ ...byteLevel([]), pre_tokenizer: null, ...file }).encode(text, false),
  ];
  const vocab = [["<unk>", 0], ["a", -1], ["b", -1], ["ab", -3], ["aba", -2]];
  const unigram = { model: { type: "Unigram", vocab, unk_id: 0 } };
  assert.deepEqual(idsOf(unigram, "abab"), [4, 2]);
  assert.deepEqual(idsOf(unigram, "aéüb"), [1, 0, 2]);
  const pieces = { "[UNK]": 0, "un": 1, "##able": 2, "##a": 3 };
  const wordPiece = { model: { type: "WordPiece", vocab: pieces } };
  assert.deepEqual(idsOf(wordPiece, "unable"), [1, 2]);
  assert.deepEqual(idsOf(wordPiece, "unfit"), [0]);
  const wordLevel = { model: { type: "WordLevel", vocab: { a: 3 }, unk_token: "no" } };
  assert.deepEqual(idsOf(wordLevel, "a"), [3]);
  assert.throws(() => idsOf(wordLevel, "b"), /no token for "b"/);
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
  const encoder = makeTokenEncoder(file);
  assert.deepEqual([...encoder.encode("<s>", true)], [900, 900]);
  assert.deepEqual([...encoder.encode("<s>", false)], [900]);
  assert.equal(encoder.idOf("<s>"), 900);
  assert.equal(encoder.idOf("<nothing>"), null);
});

Deno.test("rules that make a text longer again and again are stopped before the memory is full", () => {
  const rule = { type: "Replace", pattern: { String: "a" }, content: "a".repeat(1000) };
  const growing = [rule, rule, rule, rule];
  const normalize = makeNormalizer({ type: "Sequence", normalizers: growing });
  assert.throws(() => normalize.of("a"), { code: "limit", limit: "limits.textCharacters" });
  const decoder = makeTokenDecoder({
    tokens: ["a"],
    special: new Set(),
    decoder: { type: "Sequence", decoders: [...growing, { type: "Fuse" }] },
  });
  assert.throws(() => decoder!.decode([0], false), {
    code: "limit",
    limit: "limits.textCharacters",
  });
});

Deno.test("a text is replaced as JavaScript would replace it, in the place of nothing too", () => {
  fc.assert(fc.property(
    fc.string({ unit: fc.constantFrom("a", "b") }),
    fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 2 }),
    fc.string({ unit: fc.constantFrom("a", "$&"), maxLength: 3 }),
    (text, pattern, content) => {
      assert.equal(replaceWithin(text, pattern, content), text.replaceAll(pattern, () => content));
    },
  ));
});
