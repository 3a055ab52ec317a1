import { thoughtMarks } from "./answer.ts";
import { anyOf, type Scanner } from "./scanner.ts";

/** What stops the reading of a block, by the marks of its format: there are some thirty. */
const stops = new Map<string, readonly string[]>();

function stopsOf(marks: readonly string[]): readonly string[] {
  const key = marks.join("\n");
  let all = stops.get(key);
  if (all === undefined) {
    all = [...marks, ...thoughtMarks.flat()];
    stops.set(key, all);
  }
  return all;
}

/**
 * What stands from a place to a closing mark, to the next opening of a call, to a mark of thoughts, or
 * to the end. Marks in a text of JSON are that text, and end nothing.
 */
export function jsonBlock(
  scanner: Scanner,
  start: number,
  { close, opens, quote = '"' }: {
    close: string | null;
    opens: readonly string[];
    /** What stands around texts: of JSON, or a mark without escapes. */
    quote?: string;
  },
): { body: string; end: number } {
  const { text } = scanner;
  const stop = anyOf(stopsOf([quote, ...(close === null ? [] : [close]), ...opens]));
  stop.lastIndex = start;
  for (let found = stop.exec(text); found !== null; found = stop.exec(text)) {
    if (found[0] === quote) {
      stop.lastIndex = quote === '"'
        ? textEnd(text, found.index + 1)
        : markEnd(text, quote, found.index + quote.length);
      continue;
    }
    scanner.looked += found.index - start;
    const isClose = found[0] === close;
    return {
      body: text.slice(start, found.index),
      end: isClose ? found.index + found[0].length : found.index,
    };
  }
  scanner.looked += text.length - start;
  return { body: text.slice(start), end: text.length };
}

/** The place behind a text of JSON, or the end. */
function textEnd(text: string, from: number): number {
  const sign = /["\\]/g;
  sign.lastIndex = from;
  for (let found = sign.exec(text); found !== null; found = sign.exec(text)) {
    if (found[0] === '"') return found.index + 1;
    sign.lastIndex = found.index + 2;
  }
  return text.length;
}

/** The place behind the next mark, or the end. */
function markEnd(text: string, mark: string, from: number): number {
  const at = text.indexOf(mark, from);
  return at < 0 ? text.length : at + mark.length;
}
