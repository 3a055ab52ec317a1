/** Texts are cut and written anew as Python's tokenizers do it: most cases are of their documentation. */
import { deepEqual, equal, throws } from "node:assert/strict";
import { makeNormalizer } from "../../../src/internal/token_encoder/normalizers.ts";
import { makePreTokenizer } from "../../../src/internal/token_encoder/pre_tokenizers.ts";

const cut = (config: unknown, text: string): string[] =>
  Array.from(makePreTokenizer(config).cut({ text, isFirst: true }), (piece) => piece.text);

const hyphen = (behavior: string) => ({ type: "Split", pattern: { String: "-" }, behavior });

const cuts: readonly (readonly [string, unknown, string, readonly string[]])[] = [
  ["nothing", null, "a b", ["a b"]],
  ["removed", hyphen("Removed"), "the-final--countdown", ["the", "final", "countdown"]],
  [
    "isolated",
    hyphen("Isolated"),
    "the-final--countdown",
    ["the", "-", "final", "-", "-", "countdown"],
  ],
  [
    "merged with previous",
    hyphen("MergedWithPrevious"),
    "the-final--countdown",
    ["the-", "final-", "-", "countdown"],
  ],
  [
    "merged with next",
    hyphen("MergedWithNext"),
    "the-final--countdown",
    ["the", "-final", "-", "-countdown"],
  ],
  [
    "contiguous",
    hyphen("Contiguous"),
    "the-final--countdown",
    ["the", "-", "final", "--", "countdown"],
  ],
  [
    "inverted",
    { type: "Split", pattern: { Regex: "\\w+" }, behavior: "Removed", invert: true },
    "a, b",
    ["a", "b"],
  ],
  ["digits", { type: "Digits" }, "Call 123 now", ["Call ", "123", " now"]],
  [
    "single digits",
    { type: "Digits", individual_digits: true },
    "Call 123 now",
    ["Call ", "1", "2", "3", " now"],
  ],
  ["punctuation", { type: "Punctuation" }, "Hey, you!", ["Hey", ",", " you", "!"]],
  ["white space", { type: "Whitespace" }, "Hey man! 3.5", ["Hey", "man", "!", "3", ".", "5"]],
  ["white space only", { type: "WhitespaceSplit" }, " Hey  man! ", ["Hey", "man!"]],
  [
    "BERT",
    { type: "BertPreTokenizer" },
    "Hey friend!     How are you?!?",
    ["Hey", "friend", "!", "How", "are", "you", "?", "!", "?"],
  ],
  [
    "a delimiter",
    { type: "CharDelimiterSplit", delimiter: "-" },
    "the-final--countdown",
    ["the", "final", "countdown"],
  ],
  ["a fixed length", { type: "FixedLength", length: 5 }, "Hello wörld", ["Hello", " wörl", "d"]],
  ["metaspace", { type: "Metaspace" }, "Hey my friend", ["▁Hey", "▁my", "▁friend"]],
  [
    "metaspace without a first",
    { type: "Metaspace", prepend_scheme: "never" },
    "Hey my friend",
    ["Hey", "▁my", "▁friend"],
  ],
  ["metaspace uncut", { type: "Metaspace", split: false }, "Hey my", ["▁Hey▁my"]],
  ["byte level", { type: "ByteLevel" }, "Hello my's", [" Hello", " my", "'s"]],
  [
    "byte level as it is",
    { type: "ByteLevel", add_prefix_space: false, use_regex: false },
    "Hello my",
    ["Hello my"],
  ],
  [
    "several",
    { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, { type: "Punctuation" }] },
    "a, b",
    ["a", ",", "b"],
  ],
];

for (const [name, config, text, expected] of cuts) {
  Deno.test(`a text is cut: ${name}`, () => deepEqual(cut(config, text), expected));
}

const written: readonly (readonly [unknown, string, string])[] = [
  [null, "A", "A"],
  [{ type: "NFKC" }, "ﬁ", "fi"],
  [{ type: "Replace", pattern: { String: "``" }, content: '"' }, "``a``", '"a"'],
  [{ type: "Replace", pattern: { Regex: " {2,}" }, content: " " }, "a   b", "a b"],
  [{ type: "Prepend", prepend: "▁" }, "a", "▁a"],
  [{ type: "Prepend", prepend: "▁" }, "", ""],
  [{ type: "Strip" }, "  a  ", "a"],
  [{ type: "Strip", strip_right: false }, "  a  ", "a  "],
  [{ type: "Lowercase" }, "ÀΣ", "àσ"],
  [{ type: "StripAccents" }, "e\u0301", "e"],
  [{ type: "BertNormalizer", lowercase: true }, "Héllo\u0000\t你", "hello  你 "],
  [{ type: "BertNormalizer", lowercase: false, strip_accents: false }, "Hé", "Hé"],
  [{ type: "Nmt" }, "a\u0001\tb", "a b"],
  [{ type: "Sequence", normalizers: [{ type: "NFD" }, { type: "StripAccents" }] }, "é", "e"],
];

for (const [config, text, expected] of written) {
  Deno.test(`a text is written anew: ${JSON.stringify(config)}`, () => {
    equal(makeNormalizer(config).of(text), expected);
  });
}

Deno.test("a part that is not known is refused by its name", () => {
  throws(() => makePreTokenizer({ type: "UnicodeWords" }), /UnicodeWords/);
  throws(() => makePreTokenizer("words"), /no object/);
  throws(() => makePreTokenizer(hyphen("Doubled")), /Doubled/);
  throws(() => makePreTokenizer({ type: "FixedLength", length: 0 }), /FixedLength/);
  throws(() => makePreTokenizer({ type: "Split", pattern: {}, behavior: "Removed" }), /pattern/);
  throws(() => makeNormalizer({ type: "Uppercase" }), /Uppercase/);
  throws(() => makeNormalizer("lower"), /no object/);
});
