/** Ids of texts beside Hugging Face's tokenizers: of real models, and of tokenizers made up of any parts. */
import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { tokenizersPython } from "../../../scripts/real_tokenizers/home.ts";
import { characterOfByte } from "../../../src/internal/token_encoder/characters.ts";
import { makeTokenEncoder } from "../../../src/internal/token_encoder/encoder.ts";
import { makeNormalizer } from "../../../src/internal/token_encoder/normalizers.ts";
import { makePreTokenizer } from "../../../src/internal/token_encoder/pre_tokenizers.ts";
import { tokenizerFolder } from "../../_support/real.ts";

type Json = Readonly<Record<string, unknown>>;
interface Case {
  readonly tokenizer: string;
  readonly texts: readonly string[];
}
type Encoded = { readonly error: string } | {
  readonly ids: readonly (number[] | null)[];
  readonly special: readonly (number[] | null)[];
  readonly words: readonly (string[] | null)[];
};

const python = new URL("../../../scripts/real_tokenizers/encode.py", import.meta.url).pathname;

async function encodedByPython(cases: readonly Case[]): Promise<Encoded[]> {
  const folder = await Deno.makeTempDir();
  try {
    const [input, output] = ["input.json", "output.json"].map((name) => join(folder, name));
    await Deno.writeTextFile(input!, JSON.stringify(cases));
    // What Rust says of its panics is not of interest.
    const { success } = await new Deno.Command(tokenizersPython(), {
      args: [python, input!, output!],
      stderr: "null",
      signal: AbortSignal.timeout(120_000),
    }).output();
    assert.ok(success, "python encode.py failed");
    return JSON.parse(await Deno.readTextFile(output!));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Characters on which JavaScript, Rust and Oniguruma do not agree, and those that stand beside them. */
const odd = [
  ..."\t\n\v\f\r\x1c\x1d\x1e\x1f \u0085\u00a0\u00ad\u1680\u180e\u2000\u2007\u200a\u200b\u200c\u200d",
  ..."\u2028\u2029\u202f\u205f\u2060\u3000\ufeff\0\x7f\u0378\ue000\ufffd\u{10fffd}",
  ..."aZ_09bSſKkßİıΣςéñ٣१²½Ⅷ①𝟘文のカ글عไ𝒜'’!?.-—/\\$^|<>=(){}[]@#%&*+,:;~`\"▁Ġ",
  "\r\n",
  "e\u0301",
  "\u0301",
  "\u20dd",
  "👩‍👩‍👧",
  "🇫🇷",
  "'s",
  "'LL",
  "'ſ",
  "  ",
  "\n\n",
  "hello",
  "<s>",
  "<mask>",
  "<|im_end|>",
];
const texts = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...odd) },
    { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 3 }) },
  ),
  { maxLength: 14 },
  // Python takes no half of a pair.
).map((parts) => parts.join("").toWellFormed());

const set = fc.constantFrom(
  "\\s",
  "\\S",
  "\\w",
  "\\W",
  "\\d",
  "\\D",
  "\\p{L}",
  "\\P{L}",
  "\\p{N}",
  "\\p{^Lu}",
  "\\p{Han}",
  "\\h",
);
const member = fc.oneof(
  set,
  fc.constantFrom(
    "a-z",
    "\\r\\n",
    "一-龥",
    "\\-",
    "'",
    "\\x{85}",
    "\\uFEFF",
    "[:space:]",
    "[^a-c]",
    "_",
  ),
);
const oneOf = fc.tuple(fc.boolean(), fc.array(member, { minLength: 1, maxLength: 3 }))
  .map(([isNegated, members]) => {
    // A bracket of POSIX stands in two.
    const inside = members.map((one) => one === "[:space:]" ? "[[:space:]]" : one).join("");
    return `[${isNegated ? "^" : ""}${inside}]`;
  });
const atom = fc.oneof(
  set,
  oneOf,
  fc.constantFrom(".", " ", "a", "'", "\\.", "(?i:'s|k)", "(?:ab|\\n)", "(?>\\s+)", "(?m:.)"),
);
const border = fc.constantFrom("", "", "", "^", "$", "\\b", "\\B", "(?!\\S)", "(?=\\s)", "(?<=a)");
const quantifier = fc.constantFrom("", "", "+", "*", "?", "{1,2}", "{2}", "+?", "++", "?+", "{1}+");
const pattern = fc.array(
  fc.array(fc.tuple(border, atom, quantifier, border), { minLength: 1, maxLength: 3 }),
  { minLength: 1, maxLength: 3 },
).map((ways) => ways.map((way) => way.flat().join("")).join("|"));

const behavior = fc.constantFrom(
  "Isolated",
  "Removed",
  "MergedWithPrevious",
  "MergedWithNext",
  "Contiguous",
);
const split = fc.record({
  type: fc.constant("Split"),
  pattern: fc.oneof(
    { weight: 4, arbitrary: pattern.map((Regex): Json => ({ Regex })) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(" ", "'", "<s", "().").map((String): Json => ({ String })),
    },
  ),
  behavior,
  invert: fc.boolean(),
});
const byteLevel = (regex: fc.Arbitrary<boolean>) =>
  fc.record({
    type: fc.constant("ByteLevel"),
    add_prefix_space: fc.boolean(),
    trim_offsets: fc.constant(true),
    use_regex: regex,
  });
const metaspace = fc.record({
  type: fc.constant("Metaspace"),
  replacement: fc.constant("▁"),
  prepend_scheme: fc.constantFrom("always", "first", "never"),
  split: fc.boolean(),
});
const step: fc.Arbitrary<Json> = fc.oneof(
  { weight: 6, arbitrary: split },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Json>({ type: "Whitespace" }, { type: "WhitespaceSplit" }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant("Digits"), individual_digits: fc.boolean() }),
  },
);
const preTokenizer = fc.oneof(
  fc.tuple(fc.array(step, { maxLength: 2 }), fc.oneof(byteLevel(fc.boolean()), metaspace, step))
    .map(([steps, last]): Json => ({ type: "Sequence", pretokenizers: [...steps, last] })),
  fc.constant(null),
);
const normalizer = fc.oneof(
  fc.constant(null),
  fc.array(
    fc.oneof(
      fc.constantFrom<Json>(
        { type: "NFC" },
        { type: "NFD" },
        { type: "Strip", strip_left: true, strip_right: true },
        { type: "Strip", strip_left: false, strip_right: true },
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ),
    ),
    { minLength: 1, maxLength: 2 },
  ).map((normalizers): Json => ({ type: "Sequence", normalizers })),
);

/** A vocabulary of bytes, characters and a few merges. */
function model(options: Json): Json {
  const vocab: Record<string, number> = {};
  const add = (token: string) => {
    if (!Object.hasOwn(vocab, token)) vocab[token] = Object.keys(vocab).length;
  };
  add("<unk>");
  characterOfByte.forEach(add);
  for (let byte = 0; byte < 256; byte++) {
    add(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  }
  for (const sign of "▁aZ09éñ文") add(sign);
  const merges = [["h", "e"], ["l", "l"], ["he", "ll"], ["hell", "o"], ["Ġ", "a"], ["▁", "▁"], [
    "Ċ",
    "Ċ",
  ]];
  for (const pair of merges) {
    pair.forEach(add);
    add(pair.join(""));
  }
  return { type: "BPE", vocab, merges, ...options };
}

const added = fc.array(
  fc.record({
    content: fc.constantFrom("<s>", "<mask>", "<|im_end|>", "a", "hello", "é", "'s"),
    single_word: fc.boolean(),
    lstrip: fc.boolean(),
    rstrip: fc.boolean(),
    normalized: fc.boolean(),
    special: fc.boolean(),
  }),
  { maxLength: 3 },
).map((tokens) => {
  const names = new Set(tokens.map(({ content }) => content));
  // Python counts on from the vocabulary, and gives no token a second id.
  const { vocab } = model({}) as { vocab: Record<string, number> };
  let next = Object.keys(vocab).length;
  return [...names].map((name) => ({
    ...tokens.find(({ content }) => content === name)!,
    id: Object.hasOwn(vocab, name) ? vocab[name]! : next++,
  }));
});

const tokenizer = fc.record({
  version: fc.constant("1.0"),
  truncation: fc.constant(null),
  padding: fc.constant(null),
  added_tokens: added,
  normalizer,
  pre_tokenizer: preTokenizer,
  post_processor: fc.constantFrom<Json | null>(null, {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "h", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: { h: { id: "h", ids: [1], tokens: ["h"] } },
  }),
  decoder: fc.constant(null),
  model: fc.record({
    byte_fallback: fc.boolean(),
    fuse_unk: fc.boolean(),
    ignore_merges: fc.boolean(),
    unk_token: fc.constantFrom(null, "<unk>"),
  }).map(model),
}).filter(({ normalizer, pre_tokenizer }) =>
  // Where a normalizer moves the begin of a text, Python's "first" is a matter of offsets.
  normalizer === null || !JSON.stringify(pre_tokenizer).includes('"first"')
);

function report(file: Json, text: string): string {
  const { vocab: _, merges: __, ...model } = file.model as Json;
  return JSON.stringify({ ...file, model, text });
}

Deno.test("any tokenizer gives the words and the ids that Python's gives", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const files = fc.sample(tokenizer, { numRuns: 400, seed });
  const lists = fc.sample(fc.array(texts, { minLength: 10, maxLength: 10 }), {
    numRuns: files.length,
    seed,
  });
  const cases = files.map((file, index) => ({
    tokenizer: JSON.stringify(file),
    texts: lists[index]!,
  }));
  const wanted = await encodedByPython(cases);
  let compared = 0;
  files.forEach((file, index) => {
    const expected = wanted[index]!;
    // Not every expression that is made up here is one.
    if ("error" in expected) return;
    const encoder = makeTokenEncoder(file);
    assert.ok(encoder, `seed ${seed}: ${report(file, "")}`);
    const normalize = makeNormalizer(file.normalizer);
    const words = makePreTokenizer(file.pre_tokenizer);
    lists[index]!.forEach((text, at) => {
      const what = `seed ${seed}: ${report(file, text)}`;
      // Rust panics on some, such as added tokens that overlap.
      if ([expected.ids, expected.special, expected.words].some((one) => one[at] === null)) return;
      if (!words.endsInBytes) {
        const normalized = normalize(text);
        const cut = normalized === "" ? [] : words.cut({ text: normalized, isFirst: true });
        assert.deepEqual(cut.map((piece) => piece.text), expected.words[at], what);
      }
      assert.deepEqual([...encoder.encode(text, false)], expected.ids[at], what);
      assert.deepEqual([...encoder.encode(text, true)], expected.special[at], what);
      compared++;
    });
  });
  assert.ok(compared > 2000, `only ${compared} texts were compared`);
});

for (const name of ["qwen3", "llama3.1", "deepseek-v3"] as const) {
  Deno.test(`${name} gives the ids that Python gives, whatever the text`, async () => {
    const path = join(tokenizerFolder(name), "tokenizer.json");
    const seed = Math.floor(Math.random() * 2 ** 31);
    const list = fc.sample(texts, { numRuns: 2000, seed });
    const [expected] = await encodedByPython([{ tokenizer: path, texts: list }]);
    assert.ok(expected && "ids" in expected);
    const encoder = makeTokenEncoder(JSON.parse(await Deno.readTextFile(path)))!;
    list.forEach((text, at) => {
      const what = `seed ${seed}: ${JSON.stringify(text)}`;
      assert.deepEqual([...encoder.encode(text, false)], expected.ids[at], what);
      assert.deepEqual([...encoder.encode(text, true)], expected.special[at], what);
    });
  });
}
