import { LimitError } from "../errors.ts";

const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

/** How long a line may be, and what happens to a longer one. */
export interface LineLimit {
  /** Name of the limit, for the error. */
  readonly name: string;
  readonly maxBytes: number;
  /** A longer line is cut instead of refused. */
  readonly cuts?: boolean | undefined;
}

/**
 * Splits bytes that come in parts into lines of text, without their ends. Every byte is looked at
 * and copied once, however small the parts and however long the line.
 */
export class LineSplitter {
  readonly #limit: LineLimit;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #rest = new Uint8Array(0);
  #length = 0;

  constructor(limit: LineLimit) {
    this.#limit = limit;
  }

  /**
   * Takes a part in; the result is the lines that end in it.
   *
   * @throws {LimitError} When a line is too long.
   */
  push(part: Uint8Array): string[] {
    const lines: string[] = [];
    let start = 0;
    for (;;) {
      const end = part.indexOf(LINE_FEED, start);
      if (end < 0) break;
      lines.push(this.#line(part.subarray(start, end)));
      start = end + 1;
    }
    if (start < part.length) this.#keep(part.subarray(start));
    return lines;
  }

  /** The text after the last line end; empty when there is none. */
  end(): string {
    return this.#line(new Uint8Array(0));
  }

  #line(last: Uint8Array): string {
    if (this.#length > 0) {
      this.#keep(last);
      last = this.#rest.subarray(0, this.#length);
      this.#length = 0;
    } else last = this.#checked(last, 0);
    const end = last.at(-1) === CARRIAGE_RETURN ? last.length - 1 : last.length;
    return this.#decoder.decode(last.subarray(0, end));
  }

  #keep(part: Uint8Array): void {
    const checked = this.#checked(part, this.#length);
    const needed = this.#length + checked.length;
    if (needed > this.#rest.length) {
      const larger = new Uint8Array(Math.max(needed, 2 * this.#rest.length, 1024));
      larger.set(this.#rest.subarray(0, this.#length));
      this.#rest = larger;
    }
    this.#rest.set(checked, this.#length);
    this.#length = needed;
  }

  #checked(part: Uint8Array, before: number): Uint8Array {
    const { name, maxBytes, cuts } = this.#limit;
    if (before + part.length <= maxBytes) return part;
    if (cuts) return part.subarray(0, Math.max(0, maxBytes - before));
    throw new LimitError(`a line is longer than ${name}, ${maxBytes} bytes`, {
      limit: name,
      max: maxBytes,
    });
  }
}

/** Splits a byte stream into lines of text, without their line ends. */
export async function* readLines(
  stream: ReadableStream<Uint8Array>,
  limit: LineLimit = { name: "lineBytes", maxBytes: 16 * 2 ** 20 },
): AsyncGenerator<string> {
  const lines = new LineSplitter(limit);
  for await (const part of stream) yield* lines.push(part);
  const rest = lines.end();
  if (rest !== "") yield rest;
}
