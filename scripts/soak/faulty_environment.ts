import type { Books } from "./books.ts";

/** Longest dialog. */
export const MAX_TURNS = 4;

/**
 * Different first messages: few, so that what is remembered of them is there before the warming up
 * ends. It is limited, but takes hours to fill, and would look like growth until then.
 */
const TEXTS = 50;

/** An environment whose dialogs end by chance, and which fails now and then. */
export class FaultyEnvironment {
  readonly #books: Books;
  readonly #onFault: () => void;
  #dialog = 0;
  #turns = 0;

  /** Tells `books` of its dialogs. */
  constructor(books: Books, onFault: () => void) {
    this.#books = books;
    this.#onFault = onFault;
  }

  /** Begins a dialog. */
  reset({ dialog }: { dialog: number }) {
    this.#dialog = dialog;
    this.#turns = 0;
    this.#books.begin(dialog);
    return { messages: [{ role: "user" as const, content: `Dialog ${dialog % TEXTS}` }] };
  }

  /** Takes a turn, or fails. */
  step() {
    if (Math.random() < 0.002) {
      this.#onFault();
      throw new Error("a fault on purpose");
    }
    this.#turns++;
    const done = Math.random() < 0.5;
    if (done || this.#turns === MAX_TURNS) this.#books.end(this.#dialog, this.#turns);
    return { reward: 1, done };
  }
}
