/** Values of JSON that stand one after the other. */
import { endOfString } from "../../internal/json.ts";

/** A piece of a text: a value of JSON that begins with a bracket, or something else. */
export interface JsonPiece {
  /** The piece. */
  readonly text: string;
  /** The first place behind it. */
  readonly end: number;
  /** Whether it begins as a list or an object does. */
  readonly isValue: boolean;
}

/** The lists and objects that a text begins with, `;` or `,` between them, and last what is no more. */
export function* jsonPieces(text: string): Generator<JsonPiece, void, undefined> {
  const between = /[\s;,]*/y;
  for (let at = 0; at < text.length;) {
    between.lastIndex = at;
    at += between.exec(text)![0].length;
    if (at === text.length) return;
    if (text[at] !== "{" && text[at] !== "[") {
      yield { text: text.slice(at), end: text.length, isValue: false };
      return;
    }
    const end = valueEnd(text, at);
    yield { text: text.slice(at, end), end, isValue: true };
    at = end;
  }
}

/** The place behind the list or object that begins at a place, or the end. */
function valueEnd(text: string, start: number): number {
  const sign = /["[\]{}]/g;
  sign.lastIndex = start;
  let depth = 0;
  for (let found = sign.exec(text); found !== null; found = sign.exec(text)) {
    if (found[0] === '"') sign.lastIndex = endOfString(text, found.index) + 1;
    else if (found[0] === "{" || found[0] === "[") depth++;
    else if (--depth === 0) return found.index + 1;
  }
  return text.length;
}
