/** Keys and values of one sequence, `[position][kvHeads * headDim]` in each layer. */
export class KvCache {
  readonly keys: Float32Array[];
  readonly values: Float32Array[];
  readonly #width: number;
  #capacity = 0;
  /** Number of positions that are filled. */
  length = 0;

  constructor(layers: number, width: number) {
    this.#width = width;
    this.keys = Array.from({ length: layers }, () => new Float32Array(0));
    this.values = Array.from({ length: layers }, () => new Float32Array(0));
  }

  /** Makes room for `positions` positions; what is there is kept. */
  reserve(positions: number): void {
    if (positions <= this.#capacity) return;
    this.#capacity = Math.max(positions, 2 * this.#capacity, 32);
    for (const side of [this.keys, this.values]) {
      for (let layer = 0; layer < side.length; layer++) {
        const grown = new Float32Array(this.#capacity * this.#width);
        grown.set(side[layer]!.subarray(0, this.length * this.#width));
        side[layer] = grown;
      }
    }
  }

  /** A new cache with the first `positions` positions of this one. */
  prefix(positions: number): KvCache {
    const copy = new KvCache(this.keys.length, this.#width);
    copy.reserve(positions);
    for (let layer = 0; layer < this.keys.length; layer++) {
      const end = positions * this.#width;
      copy.keys[layer]!.set(this.keys[layer]!.subarray(0, end));
      copy.values[layer]!.set(this.values[layer]!.subarray(0, end));
    }
    copy.length = positions;
    return copy;
  }
}
