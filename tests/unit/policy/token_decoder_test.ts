import assert from "node:assert/strict";
import fc from "fast-check";
import { makeTokenDecoder } from "../../../src/internal/token_decoder.ts";

const byteLevel = { type: "ByteLevel" };
const llama = {
  type: "Sequence",
  decoders: [
    { type: "Replace", pattern: { String: "▁" }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
    { type: "Strip", content: " ", start: 1, stop: 0 },
  ],
};

function decoder(tokens: readonly string[], steps: unknown, special: readonly number[] = []) {
  return makeTokenDecoder({ tokens, decoder: steps, special: new Set(special) });
}

/** The characters by which byte-level tokenizers write the 256 bytes. */
function byteCharacters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isShown = byte >= 33 && byte <= 126 || byte >= 161 && byte <= 172 || byte >= 174;
    return String.fromCharCode(isShown ? byte : next++);
  });
}

Deno.test("byte-level tokens decode as their bytes do, also where they are not UTF-8", () => {
  const { decode } = bound(decoder(byteCharacters(), byteLevel));
  fc.assert(fc.property(fc.uint8Array(), (bytes) => {
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    assert.equal(decode(bytes, false), text);
  }));
});

Deno.test("borders of byte-level tokens cover each character, whole", () => {
  const tokens = decoder(byteCharacters(), byteLevel);
  fc.assert(fc.property(fc.string({ unit: "grapheme" }), (text) => {
    const bytes = new TextEncoder().encode(text);
    const borders = tokens.borders(bytes)!;
    let at = 0;
    let byte = 0;
    for (const char of text) {
      const width = new TextEncoder().encode(char).length;
      for (let i = 0; i < width; i++, byte++) {
        assert.deepEqual([...borders.subarray(2 * byte, 2 * byte + 2)], [at, at + char.length]);
      }
      at += char.length;
    }
  }));
});

Deno.test("borders of broken text are not told", () => {
  assert.equal(decoder(byteCharacters(), byteLevel).borders([0xf0, 0x9f]), null);
});

Deno.test("byte fallback: whole runs are text, a broken run is one mark for each byte", () => {
  const words = ["▁a", "<0xC3>", "<0xA9>", "b", "<0xF0>", "</s>"];
  const { decode } = bound(decoder(words, llama, [5]));
  assert.equal(decode([0, 1, 2, 3], false), "aéb");
  assert.equal(decode([0, 1, 3], false), "a\ufffdb");
  assert.equal(decode([4, 1, 2], false), "\ufffd\ufffd\ufffd");
  assert.equal(decode([0, 5, 0], true), "a a");
  assert.equal(decode([0, 5, 0], false), "a</s> a");
});

Deno.test("a decoder that is not known is refused by name, none puts spaces between tokens", () => {
  assert.throws(() => decoder([], { type: "Rot13" }), /the decoder Rot13/);
  assert.equal(decoder(["a", "b"], null).decode([0, 1], false), "a b");
});

function bound(tokens: ReturnType<typeof makeTokenDecoder>) {
  return { decode: (ids: ArrayLike<number>, skip: boolean) => tokens.decode(ids, skip) };
}
