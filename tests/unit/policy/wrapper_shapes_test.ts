import assert from "node:assert/strict";
import { History } from "../../../src/policy/chat.ts";
import { ValidationError } from "../../../src/errors.ts";
import { bytes, lists, wrap } from "./support.ts";

const chat = (content: string) => [{ role: "user", content }];

// case 39

Deno.test("several samples are the last dimension, one request for each prompt", async () => {
  const { wrapper, engine } = wrap({ numSamples: 3 });
  const output = await wrapper.call({ history: [chat("a"), chat("bb")] });
  assert.deepEqual(output.batchShape, [2, 3]);
  assert.deepEqual(output.tokens.batchShape, [2, 3]);
  assert.deepEqual(output.history!.full!.shape, [2, 3, 2]);
  assert.equal(output.samples.length, 6);
  const prompts = output.tokens.get("prompt").map((ids) => bytes.decode(ids).includes("bb"));
  assert.deepEqual(prompts, [false, false, false, true, true, true]);
  assert.equal(engine.calls.length, 1);
  assert.equal((engine.calls[0]!.prompts.inputIds as unknown[]).length, 2);
  const single = await wrap({ numSamples: 2 }).wrapper.call({ history: chat("a") });
  assert.deepEqual(single.batchShape, [2]);
  assert.deepEqual(
    (await wrap({ numSamples: 1 }).wrapper.call({ history: chat("a") })).batchShape,
    [1],
  );
});

// case 39

Deno.test("two different numbers of samples are refused", () => {
  assert.throws(() => wrap({ numSamples: 2, generateKwargs: { n: 3 } }), /differs/);
});

// case 40

Deno.test("a single conversation gives a batch of no dimension and single rows", async () => {
  const output = await wrap().wrapper.call({ history: chat("a") });
  assert.deepEqual(output.batchShape, []);
  assert.equal(output.text!.nested("response"), output.text!.only("response"));
  assert.ok(output.tokens.nested("response") instanceof Int32Array);
  assert.ok(output.logProbs!.nested("response") instanceof Float32Array);
  assert.deepEqual(output.history!.full!.shape, [2]);
});

// case 41

Deno.test("a batch of two dimensions keeps its shape", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text" });
  const output = await wrapper.call({ text: [["a", "b"], ["c", "d"]] });
  assert.deepEqual(engine.calls[0]!.prompts.text, ["a", "b", "c", "d"]);
  assert.deepEqual(output.batchShape, [2, 2]);
  assert.deepEqual(output.text!.nested("prompt"), [["a", "b"], ["c", "d"]]);
});

for (const count of [1, 2, 3]) {
  // case 42
  Deno.test(`${count} prompts give ${count} rows everywhere`, async () => {
    const output = await wrap().wrapper.call({
      history: Array.from({ length: count }, (_, i) => chat(`${i}`)),
    });
    for (const rows of [output.text!.response, output.tokens.full, output.logProbs!.response]) {
      assert.equal(rows!.length, count);
    }
  });
}

for (const inputMode of ["history", "text", "tokens"] as const) {
  // case 43
  Deno.test(`a missing input is named (${inputMode})`, async () => {
    const { wrapper } = wrap({ inputMode });
    await assert.rejects(
      wrapper.call({ other: 1 }),
      (error) =>
        error instanceof ValidationError &&
        error.message.includes(`no "${inputMode}.prompt"; it has other`),
    );
  });

  // case 45

  Deno.test(`an empty batch gives an empty result without a request (${inputMode})`, async () => {
    const { wrapper, engine } = wrap({ inputMode });
    const output = await wrapper.call({ [inputMode]: [] });
    assert.deepEqual([output.batchShape, output.tokens.get("full"), output.samples], [[0], [], []]);
    assert.equal(engine.calls.length, 0);
  });
}

// case 44

Deno.test("what is no history is refused by name", async () => {
  const { wrapper } = wrap();
  await assert.rejects(wrapper.call({ history: "Hi" as never }), /Expected History object/);
  await assert.rejects(
    wrapper.call({ history: { prompt: new Date() } as never }),
    /Expected History object at history.prompt, got Date/,
  );
  await assert.rejects(wrapper.call({ history: [[{ role: "user" }]] as never }), ValidationError);
});

// case 46

Deno.test("a single message is taken as a conversation, with a warning", async () => {
  const warnings: string[] = [];
  const logger = { debug() {}, info() {}, error() {}, warn: (text: string) => warnings.push(text) };
  const { wrapper } = wrap({ logger });
  const message = History.message({ role: "user", content: "a" });
  const output = await wrapper.call({ history: { prompt: message } });
  assert.deepEqual(output.history!.full!.shape, [2]);
  // The other one says that the template is a guess.
  await wrapper.call({ history: { prompt: message } });
  assert.equal(warnings.filter((text) => !text.includes("no chat template")).length, 2);
  assert.equal(warnings.length, 3);
});

Deno.test("wrong token ids are named by their place", async () => {
  const { wrapper } = wrap({ inputMode: "tokens" });
  await assert.rejects(
    wrapper.call({ tokens: [[1], [2, -3]] }),
    /tokens\[1\]\[1\] must be a token id/,
  );
  await assert.rejects(wrapper.call({ tokens: [[1], new Int32Array()] }), /Row 1 has no token ids/);
  await assert.rejects(wrapper.call({ tokens: [[[1], [2]], [[3]]] }), /Nested lists must be even/);
});

Deno.test("ids of any list form are read", async () => {
  const { wrapper, engine } = wrap({ inputMode: "tokens", inplace: false });
  const forms = [[1, 2], Int32Array.of(1, 2), BigInt64Array.of(1n, 2n), Uint16Array.of(1, 2)];
  for (const ids of forms) await wrapper.call({ tokens: [ids] as never });
  for (const { prompts } of engine.calls) {
    assert.deepEqual(lists(prompts.inputIds as Int32Array[]), [[1, 2]]);
  }
});
