import { toHex } from "../internal/text_of_bytes.ts";

/** An id that no other has, without marks between its digits: `chatcmpl-3f…`. */
export function newId(prefix: string): string {
  return `${prefix}${crypto.randomUUID().replaceAll("-", "")}`;
}

/** A key that nobody guesses. */
export function newKey(prefix: string): string {
  return `${prefix}-${toHex(crypto.getRandomValues(new Uint8Array(24)))}`;
}
