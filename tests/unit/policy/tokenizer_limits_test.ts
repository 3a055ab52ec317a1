import assert from "node:assert/strict";
import fc from "fast-check";
import { limitsOf } from "../../../src/internal/limits.ts";
import type { TokenizerLimits } from "../../../src/policy/chat.ts";
import { LocalTokenizer, SGLangWrapper } from "../../../src/policy/mod.ts";

const doubling = { Regex: "(a|a)+$" };
const file = {
  version: "1.0",
  added_tokens: [],
  normalizer: { type: "Replace", pattern: { String: "b" }, content: "bb" },
  pre_tokenizer: { type: "Split", pattern: doubling, behavior: "Isolated", invert: false },
  post_processor: null,
  decoder: null,
  model: { type: "BPE", vocab: { a: 0, b: 1, aa: 2, ab: 3 }, merges: ["a a", "a b"] },
};

async function folder(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir();
  await Deno.writeTextFile(`${path}/tokenizer.json`, JSON.stringify(file));
  await Deno.mkdir(`${path}/additional_chat_templates`);
  for (const name of ["one", "two"]) {
    await Deno.writeTextFile(`${path}/additional_chat_templates/${name}.jinja`, "x");
  }
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

const encodings: Readonly<Record<keyof TokenizerLimits, readonly [number, string]>> = {
  fileBytes: [10, "a"],
  templates: [1, "a"],
  merges: [1, "a"],
  textMs: [5, "a".repeat(60) + "c"],
  textCharacters: [5, "bbbb"],
};

for (const [name, [max, text]] of Object.entries(encodings)) {
  Deno.test(`limits.${name} of a tokenizer is kept, and named where it is reached`, async () => {
    await using model = await folder();
    const use = async (limits: TokenizerLimits) =>
      (await LocalTokenizer.fromFolder(model.path, { limits })).encode(text);
    await assert.rejects(use({ [name]: max }), { code: "limit", limit: `limits.${name}`, max });
    if (name !== "textMs") assert.ok((await use({ [name]: max * 1000 })).length > 0);
  });
}

Deno.test("limits that are none are refused, whatever they are", () => {
  const defaults = { one: 1, two: 2 };
  const wrong = fc.oneof(
    fc.double({ max: 0 }),
    fc.constantFrom<unknown>(NaN, "5", null, true, {}, -1, 0),
  );
  fc.assert(fc.property(wrong, (value) => {
    assert.throws(() => limitsOf({ one: value as number }, defaults, "it"), { code: "validation" });
  }));
  fc.assert(fc.property(fc.double({ min: 1e-9, noNaN: true }), (one) => {
    assert.deepEqual(limitsOf({ one, two: undefined }, defaults, "it"), { one, two: 2 });
  }));
  assert.throws(() => limitsOf({ three: 3 } as never, defaults, "it"), { code: "validation" });
});

Deno.test("a signal ends the wait for a tokenizer, and the next call has it", async () => {
  await using model = await folder();
  const never = new Promise<never>(() => {});
  const waiting = new SGLangWrapper(() => never);
  const stop = new AbortController();
  const asked = waiting.tokenizer({ signal: stop.signal });
  stop.abort(new Error("enough"));
  await assert.rejects(asked, { code: "aborted" });
  await assert.rejects(waiting.tokenizer({ signal: stop.signal }), { code: "aborted" });

  await using policy = new SGLangWrapper("http://127.0.0.1:1", { tokenizer: model.path });
  await assert.rejects(policy.tokenizer({ signal: stop.signal }), { code: "aborted" });
  assert.equal((await policy.tokenizer()).name, model.path);
});
