import type { CliIo } from "./io.ts";

/** One line of the terminal that is kept up to date; says nothing where nobody watches. */
export class ProgressLine implements Disposable {
  readonly #io: CliIo;
  #shown = false;

  /** Makes the line; nothing is written before {@linkcode ProgressLine.show}. */
  constructor(io: CliIo) {
    this.#io = io;
  }

  /** Replaces the line. */
  show(text: string): void {
    if (!this.#io.isTerminal) return;
    this.#io.err(`\r\x1b[K${text.slice(0, this.#io.columns - 1)}`);
    this.#shown = true;
  }

  /** Removes the line. */
  [Symbol.dispose](): void {
    if (this.#shown) this.#io.err("\r\x1b[K");
    this.#shown = false;
  }
}
