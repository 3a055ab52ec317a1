/** Tokens that are found in a text before it is cut into words. */
import { rustWord, trimEnd, whiteSpace } from "./characters.ts";

/** A token as `tokenizer.json` has it. */
export interface AddedToken {
  /** Its id. */
  readonly id: number;
  /** Its text. */
  readonly content: string;
  /** Only where no word goes on at either side. */
  readonly single_word?: boolean;
  /** White space before it belongs to it. */
  readonly lstrip?: boolean;
  /** White space behind it belongs to it. */
  readonly rstrip?: boolean;
  /** Whether it is a control token, not text. */
  readonly special?: boolean;
  /** Looked for in the normalized text. */
  readonly normalized?: boolean;
}

/** Places at which a token could begin that are looked at before others have their turn. */
export const LOOKS = 1024;

/** A stretch of a text: a token's, with its id, or another. */
export interface Section {
  /** The text. */
  readonly text: string;
  /** The id, or `null`. */
  readonly id: number | null;
  /** Where it begins. */
  readonly start: number;
}

const space = new RegExp(`[${whiteSpace}]+`, "vy");
const wordBefore = new RegExp(`[${rustWord}]$`, "v");
const wordBehind = new RegExp(`^[${rustWord}]`, "v");

/** Finds tokens in texts: the first, of these the longest. Texts are read once. */
export class AddedTokens {
  readonly #byText = new Map<string, AddedToken>();
  readonly #lengths = new Map<string, readonly number[]>();
  readonly #starts: RegExp | null;

  /** `contentOf` is how each looks in the text. */
  constructor(tokens: readonly AddedToken[], contentOf: (token: AddedToken) => string) {
    const lengths = new Map<string, Set<number>>();
    for (const token of tokens) {
      const text = contentOf(token);
      // Normalized, two may look the same: the first is found.
      if (text === "" || this.#byText.has(text)) continue;
      this.#byText.set(text, token);
      const known = lengths.get(text[0]!) ?? new Set();
      lengths.set(text[0]!, known.add(text.length));
    }
    for (const [start, known] of lengths) {
      this.#lengths.set(start, [...known].sort((a, b) => b - a));
    }
    const starts = [...lengths.keys()].map((unit) =>
      `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`
    );
    // By units, not by characters: a token may begin with half of a pair that many share.
    this.#starts = starts.length === 0 ? null : new RegExp(`[${starts.join("")}]`, "g");
  }

  /** The sections of a text, in order; none is empty. `null` stands for a stretch of looking. */
  *split(text: string): Generator<Section | null, void, undefined> {
    const starts = this.#starts;
    if (starts === null) {
      if (text !== "") yield { text, id: null, start: 0 };
      return;
    }
    let last = 0;
    let looks = 0;
    starts.lastIndex = 0;
    for (let found = starts.exec(text); found !== null; found = starts.exec(text)) {
      const at = found.index;
      if (++looks % LOOKS === 0) yield null;
      const token = this.#at(text, at);
      const end = at + (token?.length ?? 1);
      // Whoever asked may have looked through another text meanwhile.
      starts.lastIndex = end;
      if (token === null) continue;
      const { added } = token;
      if (added.single_word && isInWord(text, at, end)) continue;
      let from = at;
      let to = end;
      if (added.lstrip) from = Math.max(last, trimEnd(text.slice(last, at)).length + last);
      if (added.rstrip) {
        space.lastIndex = end;
        to = space.test(text) ? space.lastIndex : end;
      }
      if (from > last) yield { text: text.slice(last, from), id: null, start: last };
      // The next may lie in the white space that this one took: it is found all the same.
      if (to > from) yield { text: text.slice(from, to), id: added.id, start: from };
      starts.lastIndex = end;
      last = to;
    }
    if (last < text.length) yield { text: text.slice(last), id: null, start: last };
  }

  #at(text: string, at: number): { added: AddedToken; length: number } | null {
    for (const length of this.#lengths.get(text[at]!)!) {
      const added = this.#byText.get(text.slice(at, at + length));
      if (added !== undefined) return { added, length };
    }
    return null;
  }
}

function isInWord(text: string, start: number, end: number): boolean {
  return wordBefore.test(text.slice(Math.max(0, start - 2), start)) ||
    wordBehind.test(text.slice(end, end + 2));
}
