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

  /** The first of some marks at or behind `from`. */
  first(marks: readonly string[], from: number): { mark: string; at: number } | null {
    let best: { mark: string; at: number } | null = null;
    for (const mark of marks) {
      const at = this.find(mark, from);
      if (at >= 0 && (best === null || at < best.at)) best = { mark, at };
    }
    return best;
  }
}
