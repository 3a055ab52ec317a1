import assert from "node:assert/strict";
import fc from "fast-check";
// deno-lint-ignore no-explicit-any
const visible: any = await import("../../../src/dashboard/page/visible.js" as string);
const plain: (text: string) => string = visible.plain;
const tokenText = (text: string): string =>
  visible.tokenPieces(text).map((piece: { text: string }) => piece.text).join("");

/** What turns a text around, joins or hides: Unicode's own lists, not ours. */
const unseen = /[\p{Bidi_Control}\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

Deno.test("no character that cannot be seen is left, wherever it stands", () => {
  const hidden = fc.constantFrom(
    ..."\u202e\u2066\u200b\u200d\u2060\ufeff\u00ad\u061c\u180e\u034f\u3164\u115f\u2028\u0000\u001b",
    "\u{e0041}",
    "\u{e0100}",
    "\ufe0f",
    "\u00a0",
    "\u3000",
    "\ud800",
  );
  const unit = fc.oneof(hidden, fc.string({ unit: "binary", minLength: 1, maxLength: 1 }));
  fc.assert(
    fc.property(fc.array(unit), (units) => {
      const text = units.join("");
      const shown = plain(text).replaceAll(/[\n\t]/g, "");
      // An emoji keeps what makes it one.
      const rest = shown.replaceAll(
        /(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}#*0-9])\ufe0f|(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic})/gu,
        "",
      );
      assert.doesNotMatch(rest, unseen);
      for (const [character] of text.matchAll(/[\u202e\u200b\u2060\u{e0041}\u00a0]/gu)) {
        const code = character!.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
        assert.ok(shown.includes(`⟨U+${code}⟩`));
      }
    }),
    { numRuns: 200 },
  );
});

Deno.test("every character of bidi, zero width and the like has its mark", () => {
  for (let code = 0; code <= 0x10ffff; code++) {
    const character = String.fromCodePoint(code);
    if (!unseen.test(character) || character === "\n" || character === "\t") continue;
    assert.match(plain(`a${character}b`), /^a⟨U\+[0-9A-F]{4,6}⟩b$/, code.toString(16));
  }
});

Deno.test("ordinary texts, also in other scripts and with emoji, stay as they are", () => {
  for (
    const text of ["Say hello, wörld\n\tthere", "שלום", "مرحبا", "你好", "👩‍👩‍👧 ❤️ 👍🏽 1️⃣", "e\u0301"]
  ) {
    assert.equal(plain(text), text);
  }
});

Deno.test("a token's blanks and line ends are seen", () => {
  assert.equal(tokenText(" a\tb\n"), "·a→\tb↵\n");
  assert.equal(tokenText("\r\n\r\n"), "␍↵\n␍↵\n");
  assert.equal(tokenText("a\u200b \u00a0"), "a⟨U+200B⟩·⟨U+00A0⟩");
});
