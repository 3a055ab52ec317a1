import { ProtocolError } from "../errors.ts";
import type { ByteStream } from "./byte_stream.ts";
import { defaultStoreLimits } from "./limits.ts";

/** Reads one answer of a store. */
export type Answer<T> = (stream: ByteStream, signal: AbortSignal) => Promise<T>;

/** Reads so many bytes. */
export function readExactly(length: number): Answer<Uint8Array> {
  return (stream, signal) => stream.read(length, signal);
}

/** Reads a 64-bit signed integer. */
export async function readI64(stream: ByteStream, signal: AbortSignal): Promise<bigint> {
  return viewOf(await stream.read(8, signal)).getBigInt64(0, true);
}

/** Reads a length and that many bytes. */
export async function readBytes(stream: ByteStream, signal: AbortSignal): Promise<Uint8Array> {
  const length = viewOf(await stream.read(8, signal)).getBigUint64(0, true);
  if (length > BigInt(defaultStoreLimits.maxValueBytes)) {
    throw new ProtocolError(`TCPStore announced a value of ${length} bytes`);
  }
  return await stream.read(Number(length), signal);
}

/** A view of all of `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
