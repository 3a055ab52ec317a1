/**
 * How the owner and its keeper write to each other: one JSON object a line, where bigints and bytes
 * have forms of their own.
 *
 * @module
 */

/** Begins a line of the keeper's; NCCL writes to the same output, and never this. */
export const LINE_MARK = "\u0001";

/** One message as a line without its end. */
export function encodeMessage(message: unknown): string {
  return JSON.stringify(message, (_key, value) => {
    if (typeof value === "bigint") return { $bigint: value.toString() };
    if (value instanceof Uint8Array) return { $bytes: value.toBase64() };
    return value;
  });
}

/** The message of a line. */
export function decodeMessage(line: string): unknown {
  return JSON.parse(line, (_key, value) => {
    if (typeof value !== "object" || value === null) return value;
    if (typeof value.$bigint === "string") return BigInt(value.$bigint);
    if (typeof value.$bytes === "string") return Uint8Array.fromBase64(value.$bytes);
    return value;
  });
}
