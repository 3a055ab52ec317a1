import { LimitError } from "../errors.ts";

const FIRST_BYTES = 16_384;
const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

/** Reads bytes of a connection: parts as they come, and lines. */
export class ByteReader {
  readonly #read: (target: Uint8Array) => Promise<number | null>;
  #buffer = new Uint8Array(FIRST_BYTES);
  #start = 0;
  #end = 0;
  #coming: Promise<boolean> | undefined;

  /** Reads through `read`, which fills a part of its target and gives `null` at the end. */
  constructor(read: (target: Uint8Array) => Promise<number | null>) {
    this.#read = read;
  }

  /** Bytes that have come and were not taken. */
  get buffered(): number {
    return this.#end - this.#start;
  }

  /** Whether what has come begins with a record of TLS: an alert, or a part of a handshake. */
  get beginsWithTls(): boolean {
    const [kind = 0, major] = this.#buffer.subarray(this.#start, this.#end);
    return (kind === 21 || kind === 22) && major === 3;
  }

  /**
   * Begins to read before anybody needs it; the next `fill` gets what comes. Resolves, never
   * rejects, when something came: bytes, the end, or an error.
   */
  async watch(): Promise<void> {
    this.#coming = this.#fill();
    try {
      await this.#coming;
    } catch {
      // The next reader gets this error.
    }
  }

  /** Reads more; `false` at the end. */
  fill(): Promise<boolean> {
    const coming = this.#coming ?? this.#fill();
    this.#coming = undefined;
    return coming;
  }

  async #fill(): Promise<boolean> {
    if (this.#start === this.#end) this.#start = this.#end = 0;
    if (this.#end === this.#buffer.length) this.#makeRoom();
    const length = await this.#read(this.#buffer.subarray(this.#end));
    if (length === null) return false;
    this.#end += length;
    return true;
  }

  /** Takes at most `most` bytes of those that have come. They are valid until the next `fill`. */
  take(most: number): Uint8Array {
    const end = Math.min(this.#end, this.#start + most);
    const part = this.#buffer.subarray(this.#start, end);
    this.#start = end;
    return part;
  }

  /**
   * The next line as latin-1 text without its end, or `null` when the bytes end before it does.
   * Every byte is looked at once.
   *
   * @throws {LimitError} When the line is longer than `maxBytes`.
   */
  async line(limit: string, maxBytes: number): Promise<string | null> {
    let seen = 0;
    for (;;) {
      const at = this.#buffer.subarray(0, this.#end).indexOf(LINE_FEED, this.#start + seen);
      const length = (at < 0 ? this.#end : at) - this.#start;
      if (length > maxBytes) {
        throw new LimitError(`a line is longer than ${limit}, ${maxBytes} bytes`, {
          limit,
          max: maxBytes,
        });
      }
      if (at >= 0) return this.#textTo(at);
      seen = length;
      if (!await this.fill()) return null;
    }
  }

  #textTo(at: number): string {
    const end = at > this.#start && this.#buffer[at - 1] === CARRIAGE_RETURN ? at - 1 : at;
    let text = "";
    for (let i = this.#start; i < end; i++) text += String.fromCharCode(this.#buffer[i]!);
    this.#start = at + 1;
    return text;
  }

  #makeRoom(): void {
    const old = this.#buffer;
    // Less than half in use: moving is enough.
    if (this.buffered > old.length / 2) this.#buffer = new Uint8Array(2 * old.length);
    this.#buffer.set(old.subarray(this.#start, this.#end));
    this.#end -= this.#start;
    this.#start = 0;
  }
}
