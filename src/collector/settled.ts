/**
 * Which groups (without groups: dialogs) are over and done with: given out, left out or given up, and
 * told so. Those below a mark are; above it a set has those that went ahead.
 */
export class Settled {
  #below: number;
  readonly #above: Set<number>;

  constructor({ below, above }: SettledState = { below: 0, above: [] }) {
    this.#below = below;
    this.#above = new Set(above);
  }

  has(group: number): boolean {
    return group < this.#below || this.#above.has(group);
  }

  add(group: number): void {
    if (group < this.#below) return;
    this.#above.add(group);
    while (this.#above.delete(this.#below)) this.#below++;
  }

  /** The same, to be written down. */
  state(): SettledState {
    return { below: this.#below, above: [...this.#above].sort((a, b) => a - b) };
  }
}

/** {@linkcode Settled}, written down. */
export interface SettledState {
  /** All groups below this number. */
  readonly below: number;
  /** The others, rising. */
  readonly above: readonly number[];
}
