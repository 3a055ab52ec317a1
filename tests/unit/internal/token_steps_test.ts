/** Long texts become tokens in steps, of which none is long, and the ids are those of one go. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { makeTokenEncoder } from "../../../src/internal/token_encoder/encoder.ts";
import { formBorder, formInSteps } from "../../../src/internal/token_encoder/unicode_forms.ts";
import { atOnce } from "../../../src/internal/work_turns.ts";

const folder = new URL("../../fixtures/policy/byte_level/", import.meta.url);
const byteLevel = JSON.parse(await Deno.readTextFile(new URL("tokenizer.json", folder)));
const vocab = { "<unk>": 0, a: 1, b: 2, ab: 3, "▁": 4, "▁a": 5, aa: 6, aaaa: 7 };
const pieces = Object.keys(vocab).map((token, at) => [token, -1 - at / 8]);
const special = [{ id: 8, content: "<|end|>", special: true, normalized: false }];
const merges = ["a b", "a a", "aa aa", "▁ a"];

/** Tokenizers of each kind. */
const files: Readonly<Record<string, Record<string, unknown>>> = {
  byteLevel,
  characters: {
    added_tokens: special,
    normalizer: { type: "Replace", pattern: { String: " " }, content: "▁" },
    model: { type: "BPE", vocab, merges, unk_token: "<unk>", fuse_unk: true },
  },
  forms: {
    added_tokens: special,
    normalizer: { type: "Sequence", normalizers: [{ type: "NFKC" }, { type: "NFC" }] },
    pre_tokenizer: { type: "Metaspace", prepend_scheme: "always", split: false },
    model: { type: "BPE", vocab, merges, unk_token: "<unk>" },
  },
  unigram: {
    added_tokens: special,
    pre_tokenizer: { type: "Metaspace", prepend_scheme: "always", split: false },
    model: { type: "Unigram", vocab: pieces, unk_id: 0 },
  },
  words: {
    added_tokens: special,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [{ type: "Digits" }, { type: "Whitespace" }, { type: "Punctuation" }],
    },
    model: { type: "WordPiece", vocab, unk_token: "<unk>" },
  },
};

/** What texts are heavy with, again and again. */
const stuff = fc.oneof(
  fc.constantFrom(
    "a",
    "ab",
    " ",
    "a b ",
    "<",
    "<|",
    "<|end|>",
    "你好",
    "😀",
    "e\u0301",
    "\n",
    "1",
    "!?",
  ),
  fc.string({ unit: "binary", minLength: 1, maxLength: 4 }),
);
const heavy = fc.array(fc.tuple(stuff, fc.integer({ min: 1, max: 6000 })), {
  minLength: 1,
  maxLength: 3,
}).map((parts) => parts.map(([text, count]) => text.repeat(count)).join("").slice(0, 30_000));

/** Largest step, in characters: a slice has room for several. */
const LARGEST_STEP = 2200;

for (const [name, file] of Object.entries(files)) {
  Deno.test(`steps of a long text are short, and their ids those of pieces: ${name}`, () => {
    const encoder = makeTokenEncoder(file);
    fc.assert(
      fc.property(heavy, (text) => {
        const steps = encoder.steps(text, false);
        let largest = 0;
        let all = 0;
        for (;;) {
          const step = steps.next();
          if (step.done === true) {
            assert.ok(largest <= LARGEST_STEP, `a step of ${largest}`);
            // Work is counted in proportion to the text.
            assert.ok(all >= text.length / 128 - 1024, `${all} for ${text.length}`);
            assert.deepEqual(step.value, encoder.encode(text, false));
            return;
          }
          largest = Math.max(largest, step.value);
          all += step.value;
        }
      }),
      { numRuns: 25 },
    );
  });
}

Deno.test("two texts whose steps take turns have the ids that each has alone", () => {
  for (const file of Object.values(files)) {
    const encoder = makeTokenEncoder(file);
    const texts = ["a b <|end|>".repeat(900), "<|end|>ab 1 ".repeat(700)];
    const alone = texts.map((text) => encoder.encode(text, false));
    const running = texts.map((text) => encoder.steps(text, false));
    const ids: (Int32Array | undefined)[] = [];
    while (running.some((_, at) => ids[at] === undefined)) {
      running.forEach((steps, at) => {
        if (ids[at] !== undefined) return;
        const step = steps.next();
        if (step.done === true) ids[at] = step.value;
      });
    }
    assert.deepEqual(ids, alone);
  }
});

const forms = ["NFC", "NFD", "NFKC", "NFKD"] as const;

Deno.test("a text is cut before no character that a form joins to the one before it", () => {
  const firsts = new Set<string>();
  const seconds = new Set<string>();
  for (let code = 0; code < 0x30000; code++) {
    if (code >= 0xd800 && code < 0xe000) continue;
    const character = String.fromCodePoint(code);
    const canonical = [...character.normalize("NFD")];
    for (const part of canonical.slice(1)) seconds.add(part);
    if (formBorder(`a${character}`, 1) === 1) firsts.add(character);
  }
  for (const character of firsts) {
    for (const form of ["NFD", "NFKD"] as const) {
      const [first = ""] = character.normalize(form);
      assert.ok(!seconds.has(first), `U+${character.codePointAt(0)!.toString(16)} begins with one`);
      assert.ok(
        !/^\p{M}/u.test(first),
        `U+${character.codePointAt(0)!.toString(16)} begins with a mark`,
      );
    }
  }
});

Deno.test("the forms of long texts are those of one go, whatever characters they have", () => {
  const one = fc.oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 2 }),
    fc.constantFrom(
      "e\u0301",
      "\u1100\u1161\u11a8",
      "ﾞ",
      "か\u3099",
      "가",
      "\u0915\u093c",
      "ﬁ",
      "a",
    ),
  );
  fc.assert(
    fc.property(
      fc.array(one, { minLength: 5, maxLength: 40 }),
      fc.constantFrom(...forms),
      (parts, form) => {
        const text = parts.join("").repeat(Math.ceil(12_000 / parts.join("").length))
          .toWellFormed();
        assert.equal(atOnce(formInSteps(text, form)), text.normalize(form));
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("marks by the thousand behind one character are refused, not put in order for minutes", () => {
  assert.throws(() => atOnce(formInSteps(`a${"\u0301\u0316".repeat(50_000)}`, "NFC")), {
    code: "limit",
  });
  assert.equal(atOnce(formInSteps("\u0301".repeat(1024), "NFC")), "\u0301".repeat(1024));
});
