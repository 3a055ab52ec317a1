import { ProtocolError, UnreachableError } from "../errors.ts";
import { isRecord, jsonExcess } from "../internal/json.ts";

/**
 * Frames of the trainer protocol: a head of 16 bytes, then the payload. All numbers are unsigned and
 * little-endian: kind (u32), push (u32), length of the payload (u64). The protocol is described in
 * `docs/trainer_protocol.md`.
 */
export const HEAD_BYTES = 16;

/** What a frame is. */
export const FrameKind = {
  /** A message: JSON in UTF-8, an object with a `type`. */
  message: 1,
  /** Bytes of the tensor that was asked for first, in order. */
  bytes: 2,
  /** A slot of the ring that was filled: slot (u32), number of bytes (u32). */
  slot: 3,
  /** A slot of the ring that can be filled again: slot (u32), zero (u32). */
  free: 4,
  /** Bytes of a batch. */
  batch: 5,
} as const;

/** Longest message before both sides know each other. */
export const MAX_GREETING_BYTES = 64 * 1024;
/** Longest message. Names of some 200,000 tensors fit. */
export const MAX_MESSAGE_BYTES = 32 * 2 ** 20;
/** Longest frame of bytes. */
export const MAX_BYTES_FRAME = 16 * 2 ** 20;

/** A frame's head. */
export interface FrameHead {
  /** One of {@linkcode FrameKind}. */
  readonly kind: number;
  /** The push that it belongs to; 0 for none. */
  readonly push: number;
  /** Bytes of the payload. */
  readonly length: number;
}

/** A head as bytes. */
export function encodeHead({ kind, push, length }: FrameHead): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEAD_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, kind, true);
  view.setUint32(4, push, true);
  view.setBigUint64(8, BigInt(length), true);
  return bytes;
}

/** A message as a frame. */
export function encodeMessage(message: object): Uint8Array<ArrayBuffer> {
  const payload = new TextEncoder().encode(JSON.stringify(message));
  const frame = new Uint8Array(HEAD_BYTES + payload.length);
  frame.set(encodeHead({ kind: FrameKind.message, push: 0, length: payload.length }));
  frame.set(payload, HEAD_BYTES);
  return frame;
}

/** The frame that gives a slot of the ring back. */
export function encodeFree(slot: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(HEAD_BYTES + 8);
  frame.set(encodeHead({ kind: FrameKind.free, push: 0, length: 8 }));
  new DataView(frame.buffer).setUint32(HEAD_BYTES, slot, true);
  return frame;
}

/** A connection as far as frames need it. */
export interface ByteConnection {
  /** Reads some bytes; `null` at the end. */
  read(target: Uint8Array): Promise<number | null>;
}

const BUFFER_BYTES = 64 * 1024;

/** Reads frames of one connection; one caller at a time. */
export class FrameReader {
  readonly #connection: ByteConnection;
  readonly #peer: string;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #start = 0;
  #end = 0;

  /** Reads from `connection`; errors call the other side `peer`. */
  constructor(connection: ByteConnection, peer: string) {
    this.#connection = connection;
    this.#peer = peer;
  }

  /** The next head. A length that no frame may have is refused here. */
  async head(): Promise<FrameHead> {
    const bytes = new Uint8Array(HEAD_BYTES);
    await this.fill(bytes);
    const view = new DataView(bytes.buffer);
    const length = view.getBigUint64(8, true);
    if (length > BigInt(MAX_MESSAGE_BYTES)) {
      throw new ProtocolError(
        `${this.#peer} announced a frame of ${length} bytes; the longest has ${MAX_MESSAGE_BYTES}`,
      );
    }
    return {
      kind: view.getUint32(0, true),
      push: view.getUint32(4, true),
      length: Number(length),
    };
  }

  /** Fills `target`: long ones straight from the socket. */
  async fill(target: Uint8Array): Promise<void> {
    let filled = this.#take(target);
    while (filled < target.length) {
      const rest = target.subarray(filled);
      if (rest.length >= BUFFER_BYTES) filled += await this.#receive(rest);
      else {
        this.#start = 0;
        this.#end = await this.#receive(this.#buffer);
        filled += this.#take(rest);
      }
    }
  }

  /** The payload of a slot's frame: which one, and how many bytes it holds. */
  async slot(length: number): Promise<readonly [slot: number, filled: number]> {
    const payload = new Uint8Array(8);
    if (length !== payload.length) {
      throw new ProtocolError(`${this.#peer} sent a slot in ${length} bytes instead of 8`);
    }
    await this.fill(payload);
    const view = new DataView(payload.buffer);
    return [view.getUint32(0, true), view.getUint32(4, true)];
  }

  /** Reads bytes that nobody wants. */
  async skip(length: number): Promise<void> {
    const waste = new Uint8Array(Math.min(length, BUFFER_BYTES));
    for (let left = length; left > 0; left -= waste.length) {
      await this.fill(left < waste.length ? waste.subarray(0, left) : waste);
    }
  }

  /** The payload of a message. */
  async message(length: number, maxBytes: number): Promise<Record<string, unknown>> {
    if (length > maxBytes) {
      throw new ProtocolError(
        `${this.#peer} announced a message of ${length} bytes; the longest has ${maxBytes}`,
      );
    }
    // Taken in pieces, so that an announced length costs nothing before its bytes are there.
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    for (let left = length; left > 0;) {
      const piece = new Uint8Array(Math.min(left, BUFFER_BYTES));
      await this.fill(piece);
      pieces.push(piece);
      left -= piece.length;
    }
    return this.#parse(pieces);
  }

  #parse(pieces: Uint8Array<ArrayBuffer>[]): Record<string, unknown> {
    let text: string;
    try {
      const decoder = new TextDecoder("utf-8", { fatal: true });
      text = pieces.map((piece) => decoder.decode(piece, { stream: true })).join("");
      text += decoder.decode();
    } catch (cause) {
      throw new ProtocolError(`${this.#peer} sent a message that is no UTF-8`, { cause });
    }
    // Counted before it is built: brackets take a byte each and a hundred times the memory.
    const excess = jsonExcess(text);
    if (excess !== null) throw new ProtocolError(`${this.#peer} sent a message that ${excess}`);
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw new ProtocolError(`${this.#peer} sent a message that is no JSON`, { cause });
    }
    if (!isRecord(value)) throw new ProtocolError(`${this.#peer} sent a message that is no object`);
    return value;
  }

  #take(target: Uint8Array): number {
    const count = Math.min(target.length, this.#end - this.#start);
    target.set(this.#buffer.subarray(this.#start, this.#start + count));
    this.#start += count;
    return count;
  }

  async #receive(target: Uint8Array): Promise<number> {
    const count = await this.#connection.read(target);
    if (count !== null) return count;
    throw new UnreachableError(`${this.#peer} closed the connection`, {
      url: this.#peer,
      reason: "lost",
    });
  }
}
