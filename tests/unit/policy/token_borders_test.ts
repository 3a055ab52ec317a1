import assert from "node:assert/strict";
import fc from "fast-check";
import { maskOf } from "../../../src/policy/assistant_mask.ts";
import { tokensBeyond } from "../../../src/policy/token_borders.ts";
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
