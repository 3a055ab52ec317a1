/** Byte-level byte-pair encoding: the alphabet and the learning of merges. */
import { regularExpression } from "../../internal/regular_expression.ts";

/** How the text is cut before merging; the rule of Qwen2's tokenizer. */
export const splitPattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" +
  "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/**
 * A printable character for each byte, in the order of GPT-2's table: printable bytes stand for
 * themselves, the others for the characters from U+0100 on.
 */
export function byteAlphabet(): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from(
    { length: 256 },
    (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++),
  );
}

/** Learns `count` merges from a text, the most frequent pair first; ties go by code point. */
export function learnMerges(text: string, count: number): [string, string][] {
  const words = countWords(text);
  const merges: [string, string][] = [];
  while (merges.length < count) {
    const pair = mostFrequentPair(words);
    if (pair === undefined) throw new Error("The corpus is too small for so many merges");
    merges.push(pair);
    for (const word of words) word.parts = mergePair(word.parts, pair);
  }
  return merges;
}

interface Word {
  parts: string[];
  readonly count: number;
}

function countWords(text: string): Word[] {
  const alphabet = byteAlphabet();
  const encoder = new TextEncoder();
  const counts = new Map<string, number>();
  for (const [piece] of text.matchAll(regularExpression(splitPattern, "gu"))) {
    counts.set(piece, (counts.get(piece) ?? 0) + 1);
  }
  return [...counts].map(([piece, count]) => ({
    parts: [...encoder.encode(piece)].map((byte) => alphabet[byte]!),
    count,
  }));
}

function mostFrequentPair(words: readonly Word[]): [string, string] | undefined {
  const counts = new Map<string, number>();
  for (const { parts, count } of words) {
    for (let i = 1; i < parts.length; i++) {
      // No part holds a space: the alphabet writes that byte as U+0120.
      const key = `${parts[i - 1]} ${parts[i]}`;
      counts.set(key, (counts.get(key) ?? 0) + count);
    }
  }
  let best: string | undefined;
  let most = 0;
  for (const [key, count] of counts) {
    if (count < most || (count === most && key >= best!)) continue;
    best = key;
    most = count;
  }
  return best === undefined ? undefined : best.split(" ") as [string, string];
}

function mergePair(parts: readonly string[], [left, right]: readonly [string, string]): string[] {
  const merged: string[] = [];
  for (let i = 0; i < parts.length; i++) {
    if (parts[i] === left && parts[i + 1] === right) {
      merged.push(left + right);
      i++;
    } else merged.push(parts[i]!);
  }
  return merged;
}
