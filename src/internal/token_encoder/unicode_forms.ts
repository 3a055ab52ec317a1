/** Unicode's forms of long texts: piece by piece. */
import { LimitError } from "../../errors.ts";
import type { Steps } from "../work_turns.ts";
import { normalized } from "./bert_normalizer.ts";

/** Characters of a piece, about. */
const PIECE = 4096;
/** Most marks behind one character. Putting them in order takes the square of their number. */
const MOST_MARKS = 1024;

/**
 * What goes together with the character before it in one of the forms, or may: marks, the parts of
 * Hangul's syllables, and what is decomposed to one of them.
 */
const behind =
  "\\p{M}\\p{Cn}\\u0e33\\u0eb3\\u1100-\\u11ff\\u3130-\\u318f\\ua960-\\ua97f\\ud7b0-\\ud7ff\\uff00-\\uffef\\u{16d40}-\\u{16d7f}";
const first = new RegExp(`[^${behind}]`, "gv");
const marks = /\p{M}+/gv;

/** Where a text may be cut from a place on, so that the pieces' forms together are the text's. */
export function formBorder(text: string, from: number): number {
  // Not within a pair.
  first.lastIndex = text.codePointAt(from - 1)! > 0xffff ? from + 1 : from;
  return first.exec(text)?.index ?? text.length;
}

/**
 * A text in one of Unicode's forms.
 *
 * @throws {LimitError} It has too many marks behind one character.
 */
export function* formInSteps(
  text: string,
  form: "NFC" | "NFD" | "NFKC" | "NFKD",
): Steps<string> {
  if (text.length <= MOST_MARKS) return normalized(text, form);
  let result = "";
  for (let from = 0; from < text.length;) {
    const end = from + PIECE >= text.length ? text.length : formBorder(text, from + PIECE);
    const piece = text.slice(from, end);
    for (const [found] of piece.matchAll(marks)) {
      if (found.length > MOST_MARKS) throw tooManyMarks(found.length);
    }
    result += normalized(piece, form);
    yield piece.length / 16;
    from = end;
  }
  return result;
}

function tooManyMarks(count: number): LimitError {
  return new LimitError(
    `A text has ${count} combining marks in a row, and at most ${MOST_MARKS} are taken: each of them ` +
      "has to be put in its place among the others",
    { limit: "marks", max: MOST_MARKS },
  );
}
