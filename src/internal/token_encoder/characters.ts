/** Sets of characters as Rust and its libraries have them: JavaScript's `\s` and `\w` are others. */
import type { Steps } from "../work_turns.ts";
import { newerPunctuation } from "./newer_characters.ts";

/** White space (Unicode's White_Space), as the inside of a class. JavaScript has U+FEFF too, not U+0085. */
export const whiteSpace =
  "\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
/** Characters of words within Oniguruma's classes, as the inside of a class. */
export const onigWordInClass = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
/** The same outside of classes: a few fractions and superscripts too. */
export const onigWord = `${onigWordInClass}\\u00b2\\u00b3\\u00b9\\u00bc-\\u00be`;
/** Characters of words to Rust's `regex`, as the inside of a class. */
export const rustWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
/** Numbers to Rust's `char::is_numeric`, as the inside of a class. */
export const numeric = "\\p{N}\\u{11de0}-\\u{11de9}\\u{16ff4}-\\u{16ff6}";
/** Punctuation to `tokenizers`, which knows Unicode 8's, as the inside of a class. */
export const punctuation = `[\\p{P}!-\\/:-@\\[-\`\\{-~\\u166d\\u{111c9}]--[${newerPunctuation}]`;

const leading = new RegExp(`^[${whiteSpace}]+`, "v");
const trailing = new RegExp(`[${whiteSpace}]+$`, "v");
const isSpace = new RegExp(`[${whiteSpace}]`, "v");

/** A text without white space at its begin. */
export function trimStart(text: string): string {
  return text.replace(leading, "");
}

/** A text without white space at its end. It takes time in proportion to that white space. */
export function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace.test(text[end - 1]!)) end--;
  return end === text.length ? text : text.slice(0, end).replace(trailing, "");
}

/** GPT-2's way to write each byte as a character, by byte. */
export const characterOfByte: readonly string[] = charactersOfBytes();

function charactersOfBytes(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isShown = byte >= 33 && byte <= 126 || byte >= 161 && byte <= 172 || byte >= 174;
    return String.fromCharCode(isShown ? byte : next++);
  });
}

const utf8 = new TextEncoder();

/** A text as its bytes in GPT-2's characters. */
export function asByteCharacters(text: string): string {
  let characters = "";
  for (const byte of utf8.encode(text)) characters += characterOfByte[byte]!;
  return characters;
}

/** The same in steps. */
export function* byteCharactersInSteps(text: string): Steps<string> {
  const pieces: string[] = [];
  for (let from = 0; from < text.length;) {
    const end = pieceEnd(text, from + CHARACTERS_A_STEP);
    pieces.push(asByteCharacters(text.slice(from, end)));
    yield CHARACTERS_A_STEP;
    from = end;
  }
  return pieces.join("");
}

/** Characters that are written as bytes in one step. */
const CHARACTERS_A_STEP = 1024;

/** A place near another where a text can be cut: not within a pair. */
export function pieceEnd(text: string, near: number): number {
  if (near >= text.length) return text.length;
  return text.codePointAt(near - 1)! > 0xffff ? near + 1 : near;
}
