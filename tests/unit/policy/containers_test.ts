import assert from "node:assert/strict";
import fc from "fast-check";
import { ChatHistory, History } from "../../../src/policy/chat.ts";
import { LogProbs, masked, Masks, nestRows, Text, Tokens } from "../../../src/policy/rows.ts";
import { StateError, ValidationError } from "../../../src/errors.ts";
import { lists } from "./support.ts";

/** Tokens, masks and log-probs of one small batch. */
function batch(prompt: number[][], response: number[][]) {
  const ids = (rows: number[][]) => rows.map((row) => Int32Array.from(row));
  const full = prompt.map((row, i) => [...row, ...response[i]!]);
  const tokens = new Tokens({ prompt: ids(prompt), response: ids(response), full: ids(full) });
  const masks = new Masks({
    allAttentionMask: full.map((row) => new Uint8Array(row.length).fill(1)),
    allAssistantMask: full.map((row, i) => new Uint8Array(row.length).fill(1, prompt[i]!.length)),
  });
  const logProbs = new LogProbs({
    response: response.map((row) => Float32Array.from(row, (_, i) => -1 - i)),
    full: full.map((row, i) =>
      Float32Array.from(row, (_, at) => Math.min(0, prompt[i]!.length - 1 - at))
    ),
  });
  return { tokens, masks, logProbs };
}

// case 62

Deno.test("padding as documented, and as TorchRL does it", () => {
  const { tokens, masks } = batch([[7, 8, 9], [7]], [[0], [0, 1]]);
  const left = tokens.pad({ padId: 256 });
  assert.deepEqual(lists(left.full), [[7, 8, 9, 0, 256], [256, 256, 7, 0, 1]]);
  assert.deepEqual(lists(left.prompt), [[7, 8, 9], [256, 256, 7]]);
  assert.deepEqual(lists(left.response), [[0, 256], [0, 1]]);
  const upstream = tokens.pad({ padId: 256, layout: "upstream" });
  assert.deepEqual(lists(upstream.full), [[7, 8, 9, 0, 256], [7, 256, 256, 0, 1]]);
  const padded = masks.pad(tokens.paddingPlan("upstream"));
  assert.deepEqual(lists(padded.allAttentionMask), [[1, 1, 1, 1, 0], [1, 0, 0, 1, 1]]);
  assert.deepEqual(lists(padded.allAssistantMask), [[0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]);
});

const rows = fc.array(
  fc.tuple(
    fc.array(fc.nat(9), { minLength: 1, maxLength: 6 }),
    fc.array(fc.nat(9), { maxLength: 6 }),
  ),
  { minLength: 1, maxLength: 5 },
);

for (const layout of ["left", "upstream"] as const) {
  // case 61
  Deno.test(`ids, masks and log-probs keep one shape when padded (${layout})`, () => {
    fc.assert(fc.property(rows, (pairs) => {
      const { tokens, masks, logProbs } = batch(pairs.map(([p]) => p), pairs.map(([, r]) => r));
      const plan = tokens.paddingPlan(layout);
      const full = tokens.pad({ padId: 0, layout }).matrix("full");
      const others = [
        masks.pad(plan).matrix("allAttentionMask"),
        masks.pad(plan).matrix("allAssistantMask"),
        logProbs.pad(plan).matrix("full"),
      ];
      for (const { shape } of others) assert.deepEqual(shape, full.shape);
    }));
  });

  // case 60

  Deno.test(`the assistant mask selects the response, padded or not (${layout})`, () => {
    fc.assert(fc.property(rows, (pairs) => {
      const { tokens, masks } = batch(pairs.map(([p]) => p), pairs.map(([, r]) => r));
      const padded = tokens.pad({ padId: 0, layout });
      const paddedMasks = masks.pad(tokens.paddingPlan(layout));
      for (const [i, response] of tokens.response!.entries()) {
        assert.deepEqual(masked(tokens.full![i]!, masks.allAssistantMask![i]!), response);
        assert.deepEqual(masked(padded.full![i]!, paddedMasks.allAssistantMask![i]!), response);
      }
    }));
  });

  Deno.test(`unpad gives back exactly what pad was given, whatever the pad id (${layout})`, () => {
    fc.assert(fc.property(rows, fc.nat(9), (pairs, padId) => {
      const { tokens } = batch(pairs.map(([p]) => p), pairs.map(([, r]) => r));
      const again = tokens.pad({ padId, layout }).unpad();
      for (const key of tokens.keys) {
        assert.deepEqual(lists(again.get(key)), lists(tokens.get(key)));
      }
    }));
  });
}

// case 59

Deno.test("unpadded rows have masks as long as prompt and response", () => {
  const { tokens, masks } = batch([[1, 2], [3]], [[4], [5, 6, 7]]);
  assert.deepEqual(lists(masks.allAttentionMask), [[1, 1, 1], [1, 1, 1, 1]]);
  assert.deepEqual(lists(masks.allAssistantMask), [[0, 0, 1], [0, 1, 1, 1]]);
  assert.deepEqual(tokens.full!.map((row) => row.length), [3, 4]);
});

Deno.test("selected rows of padded tokens unpad as before", () => {
  const { tokens } = batch([[7, 8, 9], [7]], [[0], [0, 1]]);
  const picked = tokens.pad({ padId: 0 }).select([1]);
  assert.deepEqual(lists(picked.full), [[0, 0, 7, 0, 1]]);
  assert.deepEqual(lists(picked.unpad().full), [[7, 0, 1]]);
});

Deno.test("rows without prompt and response are padded on the left", () => {
  const tokens = new Tokens({ full: [Int32Array.of(1, 2), Int32Array.of(3)] });
  assert.deepEqual(lists(tokens.pad({ padId: 0, layout: "upstream" }).full), [[1, 2], [0, 3]]);
});

Deno.test("a matrix is one array with the batch's shape", () => {
  const rows = [1, 2, 3, 4].map((id) => Int32Array.of(id, id));
  const { data, shape } = new Tokens({ full: rows }, [2, 2]).matrix("full");
  assert.deepEqual([Array.from(data), shape], [[1, 1, 2, 2, 3, 3, 4, 4], [2, 2, 2]]);
  const ragged = new Tokens({ full: [Int32Array.of(1), Int32Array.of(1, 2)] });
  assert.throws(() => ragged.matrix("full"), /call pad\(\) first/);
});

Deno.test("rows nest as the batch is shaped and reshape without copying", () => {
  const text = new Text({ prompt: ["a", "b", "c", "d"] }, [2, 2]);
  assert.deepEqual(text.nested("prompt"), [["a", "b"], ["c", "d"]]);
  assert.deepEqual(text.reshape([4]).nested("prompt"), ["a", "b", "c", "d"]);
  assert.equal(nestRows(["a"], []), "a");
  assert.throws(() => nestRows(["a", "b", "c"], [2, 2]), /needs 4 rows, but rows has 3/);
  assert.equal(new Text({ prompt: ["a"] }, []).only("prompt"), "a");
});

Deno.test("columns that are absent or of the wrong length are refused by name", () => {
  const text = new Text({ prompt: ["a", "b"] });
  assert.throws(
    () => text.get("full"),
    (error) => error instanceof StateError && /no "full"; it has prompt/.test(error.message),
  );
  assert.throws(() => text.only("prompt"), StateError);
  assert.throws(() => new Text({ prompt: ["a"], full: ["a", "b"] }), ValidationError);
  assert.throws(() => text.reshape([3]), /needs 3 rows/);
});

// case 46

Deno.test("a history of single messages in a batch becomes conversations, with a warning", () => {
  const warnings: string[] = [];
  const logger = { debug() {}, info() {}, error() {}, warn: (text: string) => warnings.push(text) };
  const messages = History.fromChats([
    { role: "user", content: "a" },
    { role: "user", content: "b" },
  ]);
  const chat = new ChatHistory({ prompt: messages }, { batchShape: [2], logger });
  assert.deepEqual(chat.prompt!.shape, [2, 1]);
  assert.equal(warnings.length, 1);
});

Deno.test("parts of a chat history must have one batch shape", () => {
  const one = History.fromChats([[{ role: "user", content: "a" }]]);
  assert.throws(
    () => new ChatHistory({ prompt: one, full: one.extend(one, { inPlace: false }) }),
    /must have one batch shape/,
  );
});
