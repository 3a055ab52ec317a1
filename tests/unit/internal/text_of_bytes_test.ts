import assert from "node:assert/strict";
import fc from "fast-check";
import { escapeRegExp, fromBase64, toBase64, toHex } from "../../../src/internal/text_of_bytes.ts";
import { precompiled } from "../../../src/internal/token_encoder/precompiled.ts";
import { atOnce } from "../../../src/internal/work_turns.ts";

/** Runs `work` as where JavaScript has none of these calls. */
function without<T>(work: () => T): T {
  const owners: [object, string][] = [
    [Uint8Array, "fromBase64"],
    [Uint8Array.prototype, "toBase64"],
    [Uint8Array.prototype, "toHex"],
    [RegExp, "escape"],
  ];
  const held = owners.map(([owner, name]) => Object.getOwnPropertyDescriptor(owner, name)!);
  owners.forEach(([owner, name]) => Reflect.deleteProperty(owner, name));
  try {
    return work();
  } finally {
    owners.forEach(([owner, name], i) => Object.defineProperty(owner, name, held[i]!));
  }
}

Deno.test("bytes become the same texts, and back, with and without JavaScript's own calls", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    assert.equal(without(() => toBase64(bytes)), toBase64(bytes));
    assert.equal(without(() => toHex(bytes)), toHex(bytes));
    const text = toBase64(bytes);
    assert.deepEqual(Uint8Array.from(without(() => fromBase64(text))), Uint8Array.from(bytes));
  }));
  const large = new Uint8Array(100_000).map((_, i) => i);
  assert.equal(without(() => toBase64(large)), toBase64(large));
});

Deno.test("a text that is no base64 is a SyntaxError with and without JavaScript's own call", () => {
  for (const text of ["*", "a", "ab=c"]) {
    assert.throws(() => fromBase64(text), SyntaxError);
    assert.throws(() => without(() => fromBase64(text)), SyntaxError);
  }
});

Deno.test("a tokenizer's table of characters is read without JavaScript's own call", () => {
  // The length of its units in front, as a u32; units of 0 have no entries.
  const table = new Uint8Array(4 + 4 * 256);
  new DataView(table.buffer).setUint32(0, 4 * 256, true);
  const text = toBase64(table);
  assert.equal(atOnce(without(() => precompiled(text))("abc")), "abc");
});

Deno.test("any text is a pattern of itself alone", () => {
  fc.assert(fc.property(fc.string({ unit: "grapheme" }), fc.string(), (text, other) => {
    for (const escaped of [escapeRegExp(text), without(() => escapeRegExp(text))]) {
      const pattern = new RegExp(`^(?:${escaped})$`, "u");
      assert.ok(pattern.test(text));
      assert.equal(pattern.test(other), text === other);
    }
  }));
});
