/**
 * What the environments of a soak saw, kept apart from the collector's own numbers: which dialogs
 * ended with how many turns, and which came out of the collector.
 */
export class Books {
  // All its memory from the start, so that it does not grow with what is counted.
  readonly #turns = new Uint8Array(4_000_000).fill(0);
  readonly #came = new Uint8Array(4_000_000).fill(0);
  /** Dialogs that came out twice. */
  doubled = 0;
  /** Dialogs that came out with another number of rows than they had turns. */
  misshapen = 0;
  /** Dialogs and rows that came out. */
  dialogs = 0;
  rows = 0;
  #most = -1;

  /** A dialog begins, or begins again. */
  begin(dialog: number): void {
    this.#most = Math.max(this.#most, dialog);
    this.#turns[dialog] = 0;
  }

  /** A dialog came to its end. */
  end(dialog: number, turns: number): void {
    this.#turns[dialog] = turns;
  }

  /** A dialog came out of the collector. */
  take(dialog: number, rows: number): void {
    if (this.#came[dialog] === 1) this.doubled++;
    if (this.#turns[dialog] !== rows) this.misshapen++;
    this.#came[dialog] = 1;
    this.dialogs++;
    this.rows += rows;
  }

  /** Dialogs that began. */
  get begun(): number {
    return this.#most + 1;
  }

  /** Dialogs that came to their end and did not come out. */
  get lost(): number {
    let lost = 0;
    for (let dialog = 0; dialog <= this.#most; dialog++) {
      if (this.#turns[dialog]! > 0 && this.#came[dialog] === 0) lost++;
    }
    return lost;
  }
}
