/** Normalizers with tables of their own: BERT's, and that of neural machine translation. */
import { whiteSpace } from "./characters.ts";
import { newerFormat, newerForms, newerMarks, newestMarks } from "./newer_characters.ts";

/** Letters that are newer than those of some JavaScript engines, and where their small ones stand. */
const newLetters: readonly (readonly [from: number, to: number, step: number])[] = [
  [0xa7ce, 0xa7ce, 1],
  [0xa7d2, 0xa7d2, 1],
  [0xa7d4, 0xa7d4, 1],
  [0x16ea0, 0x16eb8, 0x1b],
];

/** A text in small letters, each character alone: JavaScript has another sigma at the end of words. */
export function lowercase(text: string): string {
  return Array.from(text, (character) => {
    const code = character.codePointAt(0)!;
    const letter = newLetters.find(([from, to]) => code >= from && code <= to);
    return letter === undefined ? character.toLowerCase() : String.fromCodePoint(code + letter[2]);
  }).join("");
}

const form = new RegExp(`([${newerForms}]+)`, "v");

/** A text in one of Unicode's forms. */
export function normalized(text: string, name: "NFC" | "NFD" | "NFKC" | "NFKD"): string {
  if (!form.test(text)) return text.normalize(name);
  // What is split at stands between the others.
  return text.split(form).map((part, at) => at % 2 === 1 ? part : part.normalize(name)).join("");
}

/** What `StripAccents` leaves out. */
const accents = new RegExp(`[[\\p{M}\\u1cf2\\u1cf3]--[${newestMarks}]]`, "gv");

/** A text without its marks. */
export function withoutAccents(text: string): string {
  return text.replace(accents, "");
}

/** What BERT's normalizer takes for marks: some were that before they were vowels. */
const bertMarks = new RegExp(`[[\\p{Mn}\\u1734\\u{1171e}]--[${newerMarks}]]`, "gv");

const removed = new RegExp(
  `[[\\0\\ufffd\\p{Cc}\\p{Cf}\\p{Co}]--[\\t\\n\\r${newerFormat}]]`,
  "gv",
);
const spaces = new RegExp(`[${whiteSpace}]`, "gv");
const chinese =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

/** The normalizer of BERT by its settings. */
export function bertNormalizer(
  config: Readonly<Record<string, unknown>>,
): (text: string) => string {
  const { clean_text: cleans, handle_chinese_chars: cutsChinese, lowercase: lowers } = config;
  const strips = config.strip_accents ?? lowers;
  return (given) => {
    let text = given;
    if (cleans !== false) text = text.replace(removed, "").replace(spaces, " ");
    if (cutsChinese !== false) text = text.replace(chinese, " $& ");
    if (strips !== false) text = normalized(text, "NFD").replace(bertMarks, "");
    return lowers === false ? text : lowercase(text);
  };
}

const controls = "\\x01-\\x08\\x0b\\x0e-\\x1f\\x7f\\x8f\\x9f";
const nmtRemoved = new RegExp(`[${controls}]`, "g");
const nmtSpaces = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g;

/** White space of many kinds as a space, control characters left out. */
export function normalizeNmt(text: string): string {
  return text.replace(nmtRemoved, "").replace(nmtSpaces, " ");
}
