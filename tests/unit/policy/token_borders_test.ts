import assert from "node:assert/strict";
import fc from "fast-check";
import { maskOf } from "../../../src/policy/assistant_mask.ts";
import { tokensBeyond } from "../../../src/policy/token_borders.ts";
import type { Tokenizer } from "../../../src/policy/tokenizer.ts";
import { mergingTokenizer, mergingVocabulary } from "../../_support/turn_templates.ts";

const tokenizer = await mergingTokenizer();

/** The definition: prefixes of the ids, each decoded from the start. */
function byPrefixes(ids: Int32Array, place: number): number {
  for (let count = 1; count <= ids.length; count++) {
    if (tokenizer.decode(ids.subarray(0, count)).length > place) return count;
  }
  return ids.length;
}

const piece = fc.oneof(
  fc.string({ unit: "grapheme" }).map((text) => Array.from(tokenizer.encode(text))),
  fc.nat(mergingVocabulary - 1).map((id) => [id]),
);

Deno.test("borders found in windows are those that decoding every prefix finds", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(piece, { maxLength: 40 }),
      fc.array(fc.nat(300)),
      async (pieces, wanted) => {
        const ids = Int32Array.from(pieces.flat());
        const text = tokenizer.decode(ids);
        const places = wanted.filter((place) => place < text.length).sort((a, b) => a - b);
        const found = await tokensBeyond(ids, text, { places, tokenizer });
        if (found === null) return;
        assert.deepEqual(found, places.map((place) => byPrefixes(ids, place)));
      },
    ),
    { numRuns: 200 },
  );
});

/** One token for each character and for each `<s>`, behind which it writes a space, as Llama 2's does,
 * and for whose sign for a space it writes one. */
const spacing: Tokenizer = {
  name: "spacing",
  chatTemplate: null,
  specialTokens: { bosToken: "<s>", eosToken: null, padToken: null, unkToken: null },
  idOf: () => null,
  encode: (text) =>
    Int32Array.from(
      text.split(/(<s>)/).flatMap((part) => {
        if (part === "<s>") return [0];
        return part === "" ? [] : [1, ...[...part].map((one) => one.codePointAt(0)!)];
      }),
    ),
  decode: (ids) => {
    const text = Array.from(
      ids,
      (id) => id === 0 ? "<s>" : id === 1 ? " " : String.fromCodePoint(id),
    );
    return text.join("").replaceAll("\u2581", " ").replace(/^ /, "");
  },
};

Deno.test("a space that a tokenizer puts behind a special token belongs to no stretch", async () => {
  const said = fc.constantFrom("a", " a", "  ", "é😀", " ", "b ", "\u2581", " \u2581a");
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ said, isInside: fc.boolean() }), { minLength: 1, maxLength: 6 }),
      async (turns) => {
        let text = "";
        const spans = turns.flatMap(({ said, isInside }) => {
          const start = text.length + "<s>".length;
          text += `<s>${said}`;
          return isInside ? [{ start, end: text.length }] : [];
        });
        const ids = await spacing.encode(text);
        const mask = await maskOf(ids, text, { tokenizer: spacing, spans });
        if (spans.length === 0) return;
        const wanted = turns.flatMap(({ said, isInside }) => [
          ...[0, 0],
          ...[...said].map(() => Number(isInside)),
        ]);
        assert.deepEqual([...mask], wanted, JSON.stringify([text, spacing.decode(ids)]));
      },
    ),
  );
});

Deno.test("the mask of long ids takes time linear in them", async () => {
  const costOf = async (turns: number) => {
    let decoded = 0;
    const counting = {
      ...tokenizer,
      idOf: tokenizer.idOf.bind(tokenizer),
      encode: tokenizer.encode.bind(tokenizer),
      decode: (ids: ArrayLike<number>) => {
        decoded += ids.length;
        return tokenizer.decode(ids);
      },
    };
    const turn = "<|im_start|>assistant\nhello there, ünï<|im_end|>\n";
    const text = turn.repeat(turns);
    const start = turn.indexOf("hello");
    const spans = Array.from({ length: turns }, (_, index) => ({
      start: index * turn.length + start,
      end: index * turn.length + turn.length - 1,
    }));
    // One token more than tokenising gives, as sampled ids may have.
    const ids = Int32Array.from(
      Array.from({ length: turns }, () => [
        ...tokenizer.encode(turn.slice(0, start + 1)),
        ...tokenizer.encode(turn.slice(start + 1)),
      ]).flat(),
    );
    const mask = await maskOf(ids, text, { tokenizer: counting, spans });
    const marked = ids.filter((_, index) => mask[index] === 1);
    assert.equal(tokenizer.decode(marked), "hello there, ünï<|im_end|>".repeat(turns));
    return decoded;
  };
  const [few, many] = [await costOf(20), await costOf(200)];
  assert.ok(many < 12 * few, `${few} and ${many} ids were decoded`);
});
