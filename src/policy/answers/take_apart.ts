import { fault, type Found, type Reading, type TextParameters, thoughtMarks } from "./answer.ts";
import { callFormats } from "./formats.ts";
import { Scanner } from "./scanner.ts";

/** The parts of an answer. */
export interface Parts {
  /** What was thought, or `null`. */
  readonly reasoning: string | null;
  /** All but the thoughts. */
  readonly rest: string;
  /** All but thoughts and calls. */
  readonly said: string;
  /** Calls and faults, in order. */
  readonly found: readonly Found[];
  /** Characters that were looked at. */
  readonly looked: number;
}

const argumentCloses = ["</parameter>", "</function>", "</arg_value>"];
const opens = thoughtMarks.map(([open]) => open);
const closes = thoughtMarks.map(([, close]) => close);
const callOpens = callFormats.flatMap((format) => format.opens);

/**
 * Takes an answer apart in one pass. Nothing in thoughts is a call, and no mark in an argument of a
 * call opens or ends thoughts. A closing mark without an opening closes what the prompt opened; an
 * opening without a closing goes to the end.
 */
export function takeApart(
  text: string,
  { isThinking = false, texts }: { isThinking?: boolean; texts: TextParameters },
): Parts {
  const scanner = new Scanner(text);
  const thoughts: string[] = [];
  let answer: (string | Reading & { readonly text: string })[] = [];
  let at = 0;
  const thinkTo = (start: number, close: { mark: string; at: number } | null) => {
    thoughts.push(text.slice(start, close?.at ?? text.length));
    at = close === null ? text.length : close.at + close.mark.length;
  };
  if (isThinking) {
    const lead = /^\s*/.exec(text)![0].length;
    const open = opens.find((mark) => text.startsWith(mark, lead)) ?? "";
    thinkTo(open === "" ? 0 : lead + open.length, scanner.first(closes, 0));
  }
  while (at < text.length) {
    const maybeClosed = thoughts.length === 0 ? closes : [];
    const next = scanner.first([...opens, ...callOpens, ...maybeClosed], at);
    if (next === null) break;
    const { mark } = next;
    if (closes.includes(mark)) {
      answer = [];
      thinkTo(0, next);
      continue;
    }
    answer.push(text.slice(at, next.at));
    const index = opens.indexOf(mark);
    if (index >= 0) {
      const start = next.at + mark.length;
      const close = closes[index]!;
      const end = scanner.find(close, start);
      thinkTo(start, end < 0 ? null : { mark: close, at: end });
      continue;
    }
    const format = callFormats.find((one) => one.opens.includes(mark))!;
    const reading = format.read(scanner, next.at, mark, texts);
    answer.push({ ...reading, text: text.slice(next.at, reading.end) });
    at = reading.end;
  }
  answer.push(text.slice(at));
  const said = answer.filter((part) => typeof part === "string").join("");
  const strays = argumentCloses.filter((close) => said.includes(close));
  return {
    reasoning: thoughts.length === 0 ? null : thoughts.join("\n").trim(),
    rest: answer.map((part) => typeof part === "string" ? part : part.text).join(""),
    said,
    found: answer.flatMap((part) => typeof part === "string" ? [] : certain(part, strays)),
    looked: scanner.looked,
  };
}

/** A closing tag of an argument that stands outside of calls may be the real end of one. */
function certain(
  reading: Reading & { readonly text: string },
  strays: readonly string[],
): readonly Found[] {
  const stray = reading.closes?.find((close) => strays.includes(close));
  if (stray === undefined) return reading.found;
  return [fault(reading.text, `nobody can tell where it ends: a ${stray} stands outside of calls`)];
}
