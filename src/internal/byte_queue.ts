/** Smallest block, so that a trickle of single bytes does not cost an object each. */
const BLOCK_BYTES = 4096;

interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  end: number;
}

/**
 * Bytes that arrived in chunks and are taken in exact amounts. Nothing is allocated for bytes that
 * were only announced, and the memory held is in proportion to the bytes however small the chunks.
 */
export class ByteQueue {
  #blocks: Block[] = [];
  #first = 0;
  #start = 0;
  #byteLength = 0;

  /** Bytes that were pushed and not yet taken. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /** Adds a copy of `chunk`. */
  push(chunk: Uint8Array): void {
    this.#byteLength += chunk.length;
    const last = this.#blocks.at(-1);
    const fitting = last === undefined ? 0 : Math.min(chunk.length, last.bytes.length - last.end);
    if (last !== undefined && fitting > 0) {
      last.bytes.set(chunk.subarray(0, fitting), last.end);
      last.end += fitting;
    }
    if (fitting === chunk.length) return;
    const rest = chunk.subarray(fitting);
    const bytes = new Uint8Array(Math.max(BLOCK_BYTES, rest.length));
    bytes.set(rest);
    this.#blocks.push({ bytes, end: rest.length });
  }

  /** The next `length` bytes as a copy of their own, or `undefined` when not all have arrived. */
  take(length: number): Uint8Array<ArrayBuffer> | undefined {
    if (this.#byteLength < length) return undefined;
    const out = new Uint8Array(length);
    this.takeInto(out);
    return out;
  }

  /** Moves bytes into `target` as far as they are there; returns how many. */
  takeInto(target: Uint8Array): number {
    let filled = 0;
    while (filled < target.length && this.#byteLength > 0) {
      const block = this.#blocks[this.#first]!;
      const end = Math.min(block.end, this.#start + target.length - filled);
      const part = block.bytes.subarray(this.#start, end);
      target.set(part, filled);
      filled += part.length;
      this.#byteLength -= part.length;
      this.#start = end;
      if (end === block.end) this.#dropFirst();
    }
    return filled;
  }

  #dropFirst(): void {
    this.#start = 0;
    this.#first++;
    // The list is moved on only when half of it is used up, so that this costs nothing per block.
    if (this.#first * 2 < this.#blocks.length) return;
    this.#blocks = this.#blocks.slice(this.#first);
    this.#first = 0;
  }
}
