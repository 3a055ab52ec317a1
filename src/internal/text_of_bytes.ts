/** Base64 and hexadecimal texts, also where JavaScript has no calls for them yet: Node before 25. */

/** Bytes as base64. */
export function toBase64(bytes: Uint8Array): string {
  if (has(bytes, "toBase64")) return bytes.toBase64();
  return btoa(latin1Of(bytes));
}

/**
 * Bytes of a text in base64.
 *
 * @throws {SyntaxError} It is none.
 */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  if (has(Uint8Array, "fromBase64")) return Uint8Array.fromBase64(text);
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch (error) {
    throw new SyntaxError("The text is no base64", { cause: error });
  }
}

/** Bytes as hexadecimal digits. */
export function toHex(bytes: Uint8Array): string {
  if (has(bytes, "toHex")) return bytes.toHex();
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A text as a pattern that matches it alone. */
export function escapeRegExp(text: string): string {
  if (has(RegExp, "escape")) return RegExp.escape(text);
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&").replace(/-/g, "\\x2d");
}

/** Each byte as the character with its number; in parts, as a call takes only so many arguments. */
function latin1Of(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return text;
}

/** Not `in` in place, by which TypeScript takes the other branch for one that never runs. */
function has(object: object, name: string): boolean {
  return name in object;
}
