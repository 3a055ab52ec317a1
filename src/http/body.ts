import { LimitError, ProtocolError, UnreachableError } from "../errors.ts";
import type { ByteReader } from "./byte_reader.ts";
import type { BodyFraming } from "./message.ts";

/** Longest line that says how long a chunk is, its extensions included. */
const CHUNK_LINE_BYTES = 4096;
/** Lines after the last chunk. */
const TRAILER_LINES = 64;

/** The body of an answer, read part by part. */
export class BodyReader {
  readonly #bytes: ByteReader;
  readonly #kind: BodyFraming["kind"];
  /** Bytes still to come: of the body, or of the chunk. */
  #left: number;
  #isFirstChunk = true;
  #ended: boolean;

  /** Reads the body that begins at the next byte of `bytes`. */
  constructor(bytes: ByteReader, framing: BodyFraming) {
    this.#bytes = bytes;
    this.#kind = framing.kind;
    this.#left = framing.kind === "length"
      ? framing.length
      : framing.kind === "close"
      ? Infinity
      : 0;
    this.#ended = framing.kind === "none";
  }

  /** Whether the whole body was read, so that another answer may follow. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The length, where the head told it. */
  get announced(): number | undefined {
    return this.#kind === "length" ? this.#left : undefined;
  }

  /** The next part, valid until the next read; `null` at the end. */
  async read(): Promise<Uint8Array | null> {
    if (this.#ended) return null;
    if (this.#kind === "chunked" && this.#left === 0) {
      this.#left = await this.#nextChunk();
      if (this.#left === 0) {
        await this.#skipTrailer();
        this.#ended = true;
        return null;
      }
    }
    if (this.#bytes.buffered === 0 && !await this.#bytes.fill()) {
      if (this.#kind !== "close") throw cutShort();
      this.#ended = true;
      return null;
    }
    const part = this.#bytes.take(this.#left);
    this.#left -= part.length;
    if (this.#kind === "length" && this.#left === 0) this.#ended = true;
    return part;
  }

  /** All of it as text. */
  async text(limit: string, maxBytes: number): Promise<string> {
    if ((this.announced ?? 0) > maxBytes) throw tooLong(limit, maxBytes);
    const { text, isWhole } = await this.#textUpTo(maxBytes);
    if (!isWhole) throw tooLong(limit, maxBytes);
    return text;
  }

  /** Its beginning as text. */
  async beginning(maxBytes: number): Promise<string> {
    return (await this.#textUpTo(maxBytes)).text;
  }

  async #textUpTo(maxBytes: number): Promise<{ text: string; isWhole: boolean }> {
    const decoder = new TextDecoder();
    let bytes = new Uint8Array(0);
    let length = 0;
    for (;;) {
      const part = await this.read();
      if (part === null) break;
      if (part.length > maxBytes - length) {
        bytes = withRoom(bytes, length, maxBytes);
        bytes.set(part.subarray(0, maxBytes - length), length);
        return { text: decoder.decode(bytes.subarray(0, maxBytes)), isWhole: false };
      }
      // Mostly everything is in one part.
      if (length === 0 && this.#ended) return { text: decoder.decode(part), isWhole: true };
      bytes = withRoom(bytes, length, length + part.length);
      bytes.set(part, length);
      length += part.length;
    }
    return { text: decoder.decode(bytes.subarray(0, length)), isWhole: true };
  }

  async #nextChunk(): Promise<number> {
    if (!this.#isFirstChunk && await this.#line() !== "") {
      throw new ProtocolError("not HTTP: a chunk is longer than it said");
    }
    this.#isFirstChunk = false;
    const line = await this.#line();
    const match = /^([0-9A-Fa-f]{1,12})[ \t]*(?:;|$)/.exec(line);
    if (match === null) {
      throw new ProtocolError(`not HTTP: the chunk size ${JSON.stringify(line.slice(0, 40))}`);
    }
    return Number.parseInt(match[1]!, 16);
  }

  async #skipTrailer(): Promise<void> {
    for (let i = 0; i < TRAILER_LINES; i++) if (await this.#line() === "") return;
    throw new ProtocolError("not HTTP: no end of the lines after the last chunk");
  }

  async #line(): Promise<string> {
    const line = await this.#bytes.line("chunkLineBytes", CHUNK_LINE_BYTES).catch((cause) => {
      if (!(cause instanceof LimitError)) throw cause;
      throw new ProtocolError("not HTTP: the line before a chunk does not end", { cause });
    });
    if (line === null) throw cutShort();
    return line;
  }
}

function cutShort(): UnreachableError {
  return new UnreachableError("the connection ended within the answer", {
    url: "",
    reason: "lost",
  });
}

function tooLong(limit: string, max: number): LimitError {
  return new LimitError(`the answer is longer than ${limit}, ${max} bytes`, { limit, max });
}

/** The same bytes with room for `needed`; grows to twice the size, so that each is copied twice. */
function withRoom(
  bytes: Uint8Array<ArrayBuffer>,
  used: number,
  needed: number,
): Uint8Array<ArrayBuffer> {
  if (bytes.length >= needed) return bytes;
  const larger = new Uint8Array(Math.max(needed, 2 * bytes.length));
  larger.set(bytes.subarray(0, used));
  return larger;
}
