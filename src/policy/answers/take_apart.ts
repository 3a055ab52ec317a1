import { fault, type Found, type Reading, thoughtMarks, withoutEndTokens } from "./answer.ts";
import type { CallFormat } from "./call_format.ts";
import { CodeSpans } from "./code_spans.ts";
import { callFormats, listMarks } from "./formats.ts";
import { escapeRegExp } from "../../internal/text_of_bytes.ts";
import type { ParameterKinds } from "./parameter_kinds.ts";
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

/** What a model writes thoughts and calls with. */
export interface Marks {
  /** Ways to write calls that have marks of their own. */
  readonly formats: readonly CallFormat[];
  /** Marks of thoughts. */
  readonly thoughts: readonly (readonly [open: string, close: string])[];
}

/** All marks of all families. */
export const allMarks: Marks = { formats: callFormats, thoughts: thoughtMarks };

/** The marks as lists; kept, for the patterns of lists are kept too. */
interface MarkLists {
  readonly opens: readonly string[];
  readonly closes: readonly string[];
  readonly begins: readonly string[];
  readonly beginsAndCloses: readonly string[];
}

const lists = new WeakMap<Marks, MarkLists>();

function listsOf(marks: Marks): MarkLists {
  let known = lists.get(marks);
  if (known === undefined) {
    const opens = marks.thoughts.map(([open]) => open);
    const closes = marks.thoughts.map(([, close]) => close);
    const begins = [...opens, ...marks.formats.flatMap((format) => format.opens)];
    known = { opens, closes, begins, beginsAndCloses: [...begins, ...closes] };
    lists.set(marks, known);
  }
  return known;
}

/** Longer than any mark with the white space around it. */
const MAX_MARK = 100;

/** How often a call in code is read, to see whether it reaches out of it. */
const READ_IN_CODE = 16;

/**
 * Takes an answer apart in one pass. Nothing in thoughts is a call, and no mark in an argument of a
 * call opens or ends thoughts; a mark in code is a quote. A closing mark without an opening closes
 * what the prompt opened; an opening without a closing goes to the end.
 */
export function takeApart(
  text: string,
  { isThinking = false, kinds, marks = allMarks }: {
    isThinking?: boolean;
    kinds: ParameterKinds;
    marks?: Marks;
  },
): Parts {
  const { opens, closes, begins, beginsAndCloses } = listsOf(marks);
  const scanner = new Scanner(text);
  const code = new CodeSpans(scanner);
  const thoughts: string[] = [];
  let answer: Part[] = [];
  let at = 0;
  // Code begins behind this place, and the next mark is looked for behind that one.
  let from = 0, looking = 0, readInCode = 0;
  const goTo = (place: number) => at = from = looking = place;
  const thinkTo = (start: number, close: { mark: string; at: number } | null) => {
    thoughts.push(text.slice(start, close?.at ?? text.length));
    goTo(close === null ? text.length : close.at + close.mark.length);
  };
  if (isThinking) {
    const lead = /^\s*/.exec(text)![0].length;
    const open = opens.find((mark) => text.startsWith(mark, lead)) ?? "";
    thinkTo(open === "" ? 0 : lead + open.length, scanner.first(closes, 0));
  }
  while (at < text.length) {
    const next = scanner.first(thoughts.length === 0 ? beginsAndCloses : begins, looking);
    if (next === null) break;
    const { mark } = next;
    const format = marks.formats.find((one) => one.opens.includes(mark));
    let reading: Reading | null = null;
    const codeEnd = code.around(next.at, from);
    if (codeEnd !== null) {
      // A whole call that goes on behind the code is no quote.
      if (format !== undefined && readInCode++ < READ_IN_CODE) {
        reading = format.read(scanner, next.at, mark, kinds);
      }
      const isCall = reading !== null && reading.end > codeEnd &&
        reading.found.every((found) => "call" in found);
      if (!isCall) {
        from = looking = codeEnd;
        continue;
      }
    }
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
    reading ??= format!.read(scanner, next.at, mark, kinds);
    answer.push({ ...reading, text: text.slice(next.at, reading.end) });
    goTo(reading.end);
  }
  answer.push(text.slice(at));
  const parts = answer.map((part) => typeof part === "string" ? part : part.text);
  const said = answer.flatMap((part, index) =>
    typeof part === "string" ? [withoutListMarks(part, answer[index - 1], answer[index + 1])] : []
  );
  if (said.length < answer.length && typeof answer.at(-1) === "string") {
    said.push(behindCalls(said.pop()!));
  }
  return {
    reasoning: thoughts.length === 0 ? null : thoughts.join("\n").trim(),
    rest: parts.join(""),
    said: said.join(""),
    found: certain(answer),
    looked: scanner.looked,
  };
}

type Part = string | Reading & { readonly text: string };

const beforeCalls = new RegExp(`(?:${listMarks.map(escapeRegExp).join("|")})\\s*$`);
const besideCalls = new RegExp(`^\\s*(?:${listMarks.map(escapeRegExp).join("|")})`);

/** Words without the mark that a list of calls before or behind them has. */
function withoutListMarks(
  text: string,
  before: Part | undefined,
  behind: Part | undefined,
): string {
  const isCall = (part: Part | undefined) => part !== undefined && typeof part !== "string";
  const rest = isCall(behind)
    ? text.slice(0, -MAX_MARK) +
      text.slice(-MAX_MARK).replace(beforeCalls, "")
    : text;
  return isCall(before) ? rest.replace(besideCalls, "") : rest;
}

/** What stands behind the last call, without the tokens that end a turn, and without closing marks. */
function behindCalls(text: string): string {
  const plain = text.replace(/^(?:\s*<\/tool_calls?>)+/, "");
  // Words that are struck out end like a turn of Llama 2.
  return plain.includes("<s>") ? plain : withoutEndTokens(plain);
}

/** A closing tag of an argument that stands behind a call, outside of calls, may be its real end. */
function certain(answer: readonly Part[]): Found[] {
  const found: Found[] = [];
  // Where each tag stands last.
  const last = new Map<string, number>();
  const tags = new Set(
    answer.flatMap((part) => typeof part === "string" ? [] : part.closes ?? []),
  );
  answer.forEach((part, index) => {
    if (typeof part !== "string") return;
    for (const tag of tags) if (part.includes(tag)) last.set(tag, index);
  });
  answer.forEach((part, index) => {
    if (typeof part === "string") return;
    const stray = part.closes?.find((tag) => (last.get(tag) ?? -1) > index);
    if (stray === undefined) found.push(...part.found);
    else {
      const reason = `nobody can tell where it ends: a ${stray} stands outside of calls`;
      found.push(fault(part.text, reason));
    }
  });
  return found;
}
