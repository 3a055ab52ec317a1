import assert from "node:assert/strict";
import { LimitError } from "../../../src/errors.ts";
import { withinTime, withinWork } from "../../../src/internal/watchdog.ts";
import { makeTokenDecoder } from "../../../src/internal/token_decoder.ts";
import { LocalTokenizer } from "../../../src/policy/local_tokenizer.ts";

const tooLong = () => new Error("too long");
const endless = () => {
  for (;;);
};

Deno.test("what ends in time gives its value or its own error", () => {
  assert.equal(withinTime(60_000, () => 5, tooLong), 5);
  const own = new RangeError("mine");
  const raise = () => {
    throw own;
  };
  assert.throws(() => withinTime(60_000, raise, tooLong), (error) => error === own);
  assert.equal(withinTime(60_000, () => withinTime(60_000, () => 6, tooLong), tooLong), 6);
});

Deno.test("what does not end is stopped, and everything goes on after it", () => {
  for (let i = 0; i < 3; i++) {
    assert.throws(() => withinTime(10, endless, tooLong), /too long/);
    assert.throws(() => withinTime(10, () => /^(a+)+$/.test("a".repeat(99) + "b"), tooLong));
  }
  assert.equal(withinTime(60_000, () => 7, tooLong), 7);
});

Deno.test("what was stopped without having worked is run again with more time", () => {
  const never = new Int32Array(new SharedArrayBuffer(4));
  let runs = 0;
  const idle = () => {
    runs++;
    // Waits without the processor, as on a machine where others have it.
    return Atomics.wait(never, 0, 0, 200);
  };
  // Tests beside this one use the processor in the same process, which is not this one's work.
  const none = () => 0;
  assert.equal(withinWork(20, idle, tooLong, none), "timed-out");
  assert.ok(runs > 1);
  assert.throws(() => withinWork(20, endless, tooLong), /too long/);
  const sleeping = () => Atomics.wait(never, 0, 0);
  assert.throws(() => withinWork(1, sleeping, tooLong, none), /too long/);
});

/** Tries a text in two ways for each of its characters. */
const doubling = "(a|a)+$";
const attack = "a".repeat(60) + "b";
const isTextLimit = (error: unknown) =>
  error instanceof LimitError && error.limit === "limits.textMs";

Deno.test("patterns of a tokenizer's file that never end are stopped, wherever they stand", () => {
  const model = { type: "BPE", vocab: { a: 0, b: 1, [attack]: 2 }, merges: [] };
  const pattern = { Regex: doubling };
  const tokenizer = new LocalTokenizer({
    tokenizer: {
      version: "1.0",
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: { type: "Split", pattern, behavior: "Isolated", invert: false },
      post_processor: null,
      decoder: null,
      model,
    },
  });
  assert.deepEqual([...tokenizer.encode("a")], [0]);
  assert.throws(() => tokenizer.encode(attack), isTextLimit);
  assert.deepEqual([...tokenizer.encode("a")], [0]);
  const decoder = makeTokenDecoder({
    tokens: ["a", "b", attack],
    special: new Set(),
    decoder: { type: "Replace", pattern, content: "c" },
  });
  assert.equal(decoder.decode([0], false), "c");
  assert.throws(() => decoder.decode([2], false), isTextLimit);
});
