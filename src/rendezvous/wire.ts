/**
 * Numbers and encodings of torch's TCPStore protocol. All integers are little-endian; a string or
 * value is a u64 length and its bytes.
 *
 * Source: torch `c10d/TCPStoreBackend.hpp` (`QueryType`, `validationMagicNumber`), unchanged from
 * torch 2.9 to 2.14.
 */

/** First byte of a request. */
export const Op = {
  validate: 0x00,
  set: 0x01,
  compareSet: 0x02,
  get: 0x03,
  add: 0x04,
  check: 0x05,
  wait: 0x06,
  getNumKeys: 0x07,
  deleteKey: 0x08,
  append: 0x09,
  multiGet: 0x0a,
  multiSet: 0x0b,
  cancelWait: 0x0c,
  ping: 0x0d,
} as const;

/** Follows {@linkcode Op.validate}. */
export const VALIDATE_MAGIC = 0x3c85f7ce;
/** Answer to a wait: all keys are there. */
export const WAIT_DONE = 0;
/** Answer to a cancelled wait. */
export const WAIT_CANCELED = 1;
/** Answer to a check: all keys are there. */
export const CHECK_READY = 0;
/** Answer to a check: not all keys are there. */
export const CHECK_NOT_READY = 1;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** UTF-8 bytes of a text. */
export function encodeText(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Text of UTF-8 bytes; throws a `TypeError` when they are not UTF-8. */
export function decodeText(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** Builds one message from its fields. */
export class MessageWriter {
  readonly #parts: Uint8Array[] = [];
  #byteLength = 0;

  #push(part: Uint8Array): this {
    this.#parts.push(part);
    this.#byteLength += part.length;
    return this;
  }

  /** Adds one byte. */
  u8(value: number): this {
    return this.#push(Uint8Array.of(value));
  }

  /** Adds a 32-bit unsigned integer. */
  u32(value: number): this {
    const part = new Uint8Array(4);
    new DataView(part.buffer).setUint32(0, value, true);
    return this.#push(part);
  }

  /** Adds a 64-bit unsigned integer. */
  u64(value: number): this {
    return this.i64(BigInt(value));
  }

  /** Adds a 64-bit signed integer. */
  i64(value: bigint): this {
    const part = new Uint8Array(8);
    new DataView(part.buffer).setBigInt64(0, value, true);
    return this.#push(part);
  }

  /** Adds a length and the bytes. */
  bytes(value: Uint8Array): this {
    return this.u64(value.length).#push(value);
  }

  /** Adds a length and the text's UTF-8 bytes. */
  text(value: string): this {
    return this.bytes(encodeText(value));
  }

  /** Adds a count and the texts. */
  texts(values: readonly string[]): this {
    this.u64(values.length);
    for (const value of values) this.text(value);
    return this;
  }

  /** The message. */
  finish(): Uint8Array<ArrayBuffer> {
    const message = new Uint8Array(this.#byteLength);
    let offset = 0;
    for (const part of this.#parts) {
      message.set(part, offset);
      offset += part.length;
    }
    return message;
  }
}
