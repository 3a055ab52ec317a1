/** The last lines of a text, bounded by number and by length. */
export class LineTail {
  readonly #maxLines: number;
  readonly #maxLineChars: number;
  #lines: string[] = [];

  /** Keeps `maxLines` lines; longer ones than `maxLineChars` are cut. */
  constructor(maxLines: number, maxLineChars = 2000) {
    this.#maxLines = maxLines;
    this.#maxLineChars = maxLineChars;
  }

  /** Adds a line. */
  push(line: string): void {
    const { length } = line;
    this.#lines.push(length > this.#maxLineChars ? line.slice(0, this.#maxLineChars) + "…" : line);
    // Cutting only at twice the size makes a line cost nothing on average.
    if (this.#lines.length >= 2 * this.#maxLines) this.#lines = this.lines();
  }

  /** The last line that is not blank. */
  get last(): string | undefined {
    return this.#lines.findLast((line) => line.trim() !== "");
  }

  /** The kept lines, oldest first; at most `count` of them. */
  lines(count: number = this.#maxLines): string[] {
    return count <= 0 ? [] : this.#lines.slice(-Math.min(count, this.#maxLines));
  }
}
