import type { EncodeOptions, Tokenizer } from "./tokenizer.ts";

/** Tokens that are decoded together; borders are looked for within them. */
const WINDOW = 32;
/** Most tokens that a window may need to end with a whole character. */
const LONGEST_WINDOW = 64;

/**
 * For each place in a text, given in rising order: the smallest number of ids whose text is longer.
 * Takes time linear in the ids: they are decoded in windows, and only those with a place in them more
 * than once.
 *
 * `null` when the tokenizer does not write the ids in parts as it writes them together.
 */
export async function tokensBeyond(
  ids: Int32Array,
  text: string,
  { places, tokenizer, signal }:
    & { places: readonly number[]; tokenizer: Tokenizer }
    & EncodeOptions,
): Promise<number[] | null> {
  const found: number[] = [];
  let token = 0;
  let at = 0;
  while (token < ids.length && found.length < places.length) {
    const window = await windowAt(ids, text, { token, at, tokenizer, signal });
    if (window === null) return null;
    const end = at + window.length;
    const lengthOf = async (count: number) =>
      (await tokenizer.decode(ids.subarray(token, token + count), { signal })).length +
      window.hidden;
    while (found.length < places.length && places[found.length]! < end) {
      const place = places[found.length]! - at;
      let low = 1;
      let high = window.count;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (await lengthOf(middle) > place) high = middle;
        else low = middle + 1;
      }
      found.push(token + low);
    }
    token += window.count;
    at = end;
  }
  while (found.length < places.length) found.push(ids.length);
  return found;
}

interface Window {
  /** Tokens in it. */
  readonly count: number;
  /** Characters of the text that they write. */
  readonly length: number;
  /** Characters that are not written when the window is decoded alone: a space at its start. */
  readonly hidden: number;
}

/** Tokens from a place on that end with a whole character. */
async function windowAt(
  ids: Int32Array,
  text: string,
  { token, at, tokenizer, signal }: {
    token: number;
    at: number;
    tokenizer: Tokenizer;
  } & EncodeOptions,
): Promise<Window | null> {
  const most = Math.min(LONGEST_WINDOW, ids.length - token);
  for (let count = Math.min(WINDOW, most); count <= most; count++) {
    const written = await tokenizer.decode(ids.subarray(token, token + count), { signal });
    for (const hidden of [0, 1]) {
      const whole = " ".repeat(hidden) + written;
      const isWhole = !written.endsWith("\ufffd") || token + count === ids.length;
      if (isWhole && text.startsWith(whole, at)) return { count, length: whole.length, hidden };
    }
  }
  return null;
}
