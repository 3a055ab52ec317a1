import { escapeRegExp } from "../../internal/text_of_bytes.ts";

/** Patterns for the first of some marks, by the list itself: lists are made once. */
const patterns = new WeakMap<readonly string[], RegExp>();

/** The pattern that matches any of some marks, the first of the list where two stand at one place. */
export function anyOf(marks: readonly string[]): RegExp {
  let pattern = patterns.get(marks);
  if (pattern === undefined) {
    // One that matches nothing where there are no marks.
    pattern = new RegExp(marks.map((mark) => escapeRegExp(mark)).join("|") || "(?!)", "g");
    patterns.set(marks, pattern);
  }
  return pattern;
}

/**
 * Finds marks in a text from left to right. The place of each mark is kept until it is passed, so that
 * a text full of openings without an end is still read once for each kind of mark.
 */
export class Scanner {
  /** The text. */
  readonly text: string;
  /** Characters that were looked at, for tests of the time that reading takes. */
  looked = 0;
  #again = 0;
  readonly #places = new Map<string, number>();

  /** Reads a text. */
  constructor(text: string) {
    this.text = text;
  }

  /** Counts characters that may be read again from another place; `false` where it is too often. */
  mayReadAgain(characters: number): boolean {
    this.looked += characters;
    this.#again += characters;
    return this.#again <= 4 * this.text.length;
  }

  /** The first place of a mark at or behind `from`, or -1. `from` must not go back for a mark. */
  find(mark: string, from: number): number {
    const known = this.#places.get(mark);
    if (known !== undefined && (known < 0 || known >= from)) return known;
    const found = this.text.indexOf(mark, from);
    this.looked += (found < 0 ? this.text.length : found + mark.length) - from;
    this.#places.set(mark, found);
    return found;
  }

  /**
   * The first of some marks at or behind `from`. Whoever goes on behind it reads the text once, however
   * many marks there are; pass the same list each time.
   */
  first(marks: readonly string[], from: number): { mark: string; at: number } | null {
    const pattern = anyOf(marks);
    pattern.lastIndex = from;
    const found = pattern.exec(this.text);
    this.looked += (found === null ? this.text.length : pattern.lastIndex) - from;
    return found === null ? null : { mark: found[0], at: found.index };
  }
}
