import type { DevicePart, Float8Cast, StagePiece } from "../../src/collective/group.ts";
import { ValidationError } from "../../src/errors.ts";
import { type Address, nullAddress } from "../memory.ts";
import { wireTypeOf } from "./constants.ts";
import type { PlacedBytes, WirePart, WirePiece } from "./protocol.ts";

/** A piece as the rank's thread gets it. */
export function wirePiece(piece: StagePiece, addressOf: (bytes: Uint8Array) => Address): WirePiece {
  const cast = piece.castFrom !== undefined;
  const place = "device" in piece ? "device" : "host";
  const { byteLength } = "device" in piece ? piece.device : piece.bytes;
  if (cast && byteLength % 4 !== 0) {
    throw new ValidationError(`${byteLength} bytes are no whole number of float32 elements`);
  }
  const { float8 } = piece;
  if (float8 !== undefined) checkMatrix(float8, byteLength);
  if (byteLength === 0) return { place, address: nullAddress, byteLength, cast };
  const address = "device" in piece ? piece.device.address : addressOf(piece.bytes);
  return { place, address, byteLength, cast, float8 };
}

function checkMatrix({ name, rows, columns, from }: Float8Cast, byteLength: number): void {
  const expected = rows * columns * (from === "float32" ? 4 : 2);
  if (byteLength === expected && rows < 2 ** 31 && columns < 2 ** 31) return;
  throw new ValidationError(
    `"${name}" has ${byteLength} bytes, a matrix of ${rows} by ${columns} ${from} has ${expected}`,
  );
}

/** Rows and columns of a matrix that share a scale. */
export const FLOAT8_BLOCK = 128;

/** The memory of this process among pieces, which must live until they are copied. */
export function hostBytes(pieces: readonly StagePiece[]): Uint8Array[] {
  return pieces.flatMap((piece) => "device" in piece ? [] : [piece.bytes]);
}

/** Bytes that a piece takes where it lands: a cast halves them, FP8 has one for each element. */
export function landedBytes(piece: WirePiece): number {
  const { float8 } = piece;
  if (float8 !== undefined) {
    const { rows, columns, part } = float8;
    if (part === "values") return rows * columns;
    return 4 * Math.ceil(rows / FLOAT8_BLOCK) * Math.ceil(columns / FLOAT8_BLOCK);
  }
  return piece.cast ? piece.byteLength / 2 : piece.byteLength;
}

/** Bytes that pieces take together. */
export function totalLandedBytes(pieces: readonly WirePiece[]): number {
  return pieces.reduce((sum, piece) => sum + landedBytes(piece), 0);
}

/** A range of addresses. */
export type AddressRange = Pick<PlacedBytes, "address" | "byteLength">;

/** Whether one range lies within another. */
export function contains(outer: AddressRange, inner: AddressRange): boolean {
  return outer.address <= inner.address &&
    inner.address + BigInt(inner.byteLength) <= outer.address + BigInt(outer.byteLength);
}

/** How much it is, for messages. */
export function describeSize(parts: readonly PlacedBytes[]): string {
  const byteLength = parts.reduce((sum, part) => sum + part.byteLength, 0);
  return `${parts.length} part${parts.length === 1 ? "" : "s"}, ${byteLength} bytes`;
}

/** Device memory as it goes to the thread. */
export function devicePart({ device, dtype }: DevicePart): WirePart {
  const { address, byteLength } = device;
  return { place: "device", address, byteLength, ...wireTypeOf(dtype, byteLength) };
}
