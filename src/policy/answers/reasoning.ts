import { Scanner } from "./scanner.ts";

/** How models mark their thoughts. */
export const thoughtMarks: readonly (readonly [open: string, close: string])[] = [
  ["<think>", "</think>"],
  ["[THINK]", "[/THINK]"],
  ["<seed:think>", "</seed:think>"],
  ["<|START_THINKING|>", "<|END_THINKING|>"],
  ["<|channel>thought", "<channel|>"],
];

/**
 * Takes the thoughts out of an answer. A closing mark without an opening closes what the prompt
 * opened; an opening without a closing goes to the end.
 */
export function splitReasoning(
  text: string,
  isOpen: boolean,
): { reasoning: string | null; rest: string; looked: number } {
  const scanner = new Scanner(text);
  const thoughts: string[] = [];
  const said: string[] = [];
  let at = 0;
  const opens = thoughtMarks.map(([open]) => open);
  const closes = thoughtMarks.map(([, close]) => close);
  const firstOpen = scanner.first(opens, 0);
  const firstClose = scanner.first(closes, 0);
  if (firstClose !== null && (firstOpen === null || firstClose.at < firstOpen.at)) {
    thoughts.push(text.slice(0, firstClose.at));
    at = firstClose.at + firstClose.mark.length;
  } else if (isOpen && firstClose === null) {
    return { reasoning: text.trim(), rest: "", looked: scanner.looked };
  }
  while (at < text.length) {
    const open = scanner.first(opens, at);
    if (open === null) break;
    said.push(text.slice(at, open.at));
    const start = open.at + open.mark.length;
    const close = thoughtMarks[opens.indexOf(open.mark)]![1];
    const end = scanner.find(close, start);
    thoughts.push(text.slice(start, end < 0 ? text.length : end));
    at = end < 0 ? text.length : end + close.length;
  }
  said.push(text.slice(at));
  const reasoning = thoughts.length === 0 ? null : thoughts.join("\n").trim();
  return { reasoning, rest: said.join(""), looked: scanner.looked };
}
