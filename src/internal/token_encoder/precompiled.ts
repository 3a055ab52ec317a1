/** The table of characters that sentencepiece compiles into its models. */
import { ValidationError } from "../../errors.ts";
import type { Steps } from "../work_turns.ts";
import { fromBase64 } from "../text_of_bytes.ts";

const utf8 = new TextEncoder();
const decoder = new TextDecoder();
/** Characters that are looked at in one step. */
const CHARACTERS_A_STEP = 1024;

/**
 * Replaces what the table has: a double array of bytes (Darts), and behind it the texts, each up to a
 * zero byte. The shortest entry that a grapheme or a character begins with stands for all of it.
 *
 * @throws {ValidationError} It is no such table.
 */
export function precompiled(charsmap: unknown): (text: string) => Steps<string> {
  const bytes = bytesOf(charsmap);
  if (bytes === null) return asItIs;
  const size = bytes.length < 4 ? -1 : new DataView(bytes.buffer).getUint32(0, true);
  if (size < 4 || size % 4 !== 0 || 4 + size > bytes.length) throw broken();
  const units = new Uint32Array(bytes.buffer.slice(4, 4 + size));
  const texts = bytes.subarray(4 + size);
  const read = (at: number) => {
    const end = texts.indexOf(0, at);
    return decoder.decode(texts.subarray(at, end < 0 ? texts.length : end));
  };
  const replacementOf = (key: Uint8Array): string | null => {
    const at = shortestEntry(units, key);
    return at === null ? null : read(at);
  };
  // Some milliseconds of work, which only models with a table need.
  const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
  return function* (text) {
    let result = "";
    let looked = 0;
    for (const { segment, index } of graphemes.segment(text)) {
      if (index - looked >= CHARACTERS_A_STEP) {
        yield index - looked;
        looked = index;
      }
      const key = utf8.encode(segment);
      const whole = key.length < 6 ? replacementOf(key) : null;
      if (whole !== null) result += whole;
      else {
        for (const character of segment) {
          result += replacementOf(utf8.encode(character)) ?? character;
        }
      }
    }
    return result;
  };
}

/** A file may have no table. */
function* asItIs(text: string): Steps<string> {
  yield 0;
  return text;
}

function bytesOf(charsmap: unknown): Uint8Array<ArrayBuffer> | null {
  if (charsmap === null || charsmap === undefined || charsmap === "") return null;
  if (typeof charsmap !== "string") throw broken();
  try {
    return fromBase64(charsmap);
  } catch (cause) {
    throw broken(cause);
  }
}

/** The value of the shortest entry that some bytes begin with. */
function shortestEntry(units: Uint32Array, key: Uint8Array): number | null {
  let at = offsetOf(units[0]!);
  for (const byte of key) {
    if (byte === 0) return null;
    at ^= byte;
    const unit = units[at];
    if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return null;
    at ^= offsetOf(unit);
    if (((unit >>> 8) & 1) === 1) return (units[at] ?? 0) & 0x7fffffff;
  }
  return null;
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

function broken(cause?: unknown): ValidationError {
  return new ValidationError("its precompiled_charsmap is no table of characters in Base64", {
    cause,
  });
}
