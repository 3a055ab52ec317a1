/** A list of ids that grows. */
export class Ids {
  #ids: Int32Array;
  #length = 0;

  /** Has room for so many before it grows. */
  constructor(room = 256) {
    this.#ids = new Int32Array(room);
  }

  /** Adds several. */
  push(more: ArrayLike<number>): void {
    this.#makeRoom(more.length);
    this.#ids.set(more, this.#length);
    this.#length += more.length;
  }

  /** Adds one. */
  pushOne(id: number): void {
    this.#makeRoom(1);
    this.#ids[this.#length++] = id;
  }

  /** All of them. */
  all(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }

  /** The same without a copy: nothing may be added then. */
  shared(): Int32Array {
    return this.#ids.subarray(0, this.#length);
  }

  #makeRoom(more: number): void {
    if (this.#length + more <= this.#ids.length) return;
    const larger = new Int32Array(2 * (this.#length + more));
    larger.set(this.#ids.subarray(0, this.#length));
    this.#ids = larger;
  }
}
