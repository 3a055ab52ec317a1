/** Code in Markdown: what it quotes is no call and no thought. */
import type { Scanner } from "./scanner.ts";

/** Longer than any code within a line. */
const MAX_INLINE = 1000;

/** Tells whether a place of an answer is in code. Places must come in order. */
export class CodeSpans {
  readonly #scanner: Scanner;
  readonly #fences = new Map<string, number>();
  /** Up to where there are no such backticks. */
  readonly #withoutTicks = new Map<string, number>();

  /** Looks at nothing yet. */
  constructor(scanner: Scanner) {
    this.#scanner = scanner;
  }

  /**
   * The end of the code around a place, or `null`. What stands before `from` is no part of it: a call
   * or a thought is in between.
   */
  around(place: number, from: number): number | null {
    const { text } = this.#scanner;
    const before = text.slice(from, place);
    this.#scanner.looked += before.length;
    if (!before.includes("`") && !before.includes("~~~")) return null;
    const isAtStart = from === 0 || text[from - 1] === "\n";
    const fence = openFence(before, isAtStart);
    if (fence !== null) {
      const end = this.#fenceEnd(fence, place);
      if (end !== null) return end;
    }
    const ticks = openTicks(before.slice(before.lastIndexOf("\n") + 1));
    return ticks === null ? null : this.#inlineEnd(ticks, place);
  }

  #fenceEnd(fence: string, place: number): number | null {
    const { text } = this.#scanner;
    let at = this.#fences.get(fence);
    if (at === undefined || at !== -1 && at < place) {
      const close = new RegExp(`\\n[ \\t]*${fence[0]}{${fence.length},}[ \\t]*(?=\\n|$)`, "g");
      close.lastIndex = place;
      const found = close.exec(text);
      at = found === null ? -1 : found.index + found[0].length;
      this.#scanner.looked += (at < 0 ? text.length : at) - place;
      this.#fences.set(fence, at);
    }
    return at === -1 ? null : at;
  }

  #inlineEnd(ticks: string, place: number): number | null {
    const { text } = this.#scanner;
    const absent = this.#withoutTicks.get(ticks) ?? -1;
    if (place < absent) return null;
    const stop = /`+|\n/g;
    stop.lastIndex = place;
    let at = place;
    let end: number | null = null;
    while (at - place < MAX_INLINE) {
      const found = stop.exec(text);
      at = found === null ? text.length : found.index + found[0].length;
      if (found === null || found[0] === "\n") break;
      if (found[0] === ticks) {
        end = at;
        break;
      }
    }
    this.#scanner.looked += at - place;
    if (end === null) this.#withoutTicks.set(ticks, at);
    return end;
  }
}

/** The fence that is open at the end of a text, or `null`. */
function openFence(text: string, isAtStart: boolean): string | null {
  let open: string | null = null;
  for (const match of text.matchAll(/(^|\n)[ \t]*(`{3,}|~{3,}(?!~))([^`\n]*)(?=\n|$)/g)) {
    if (match.index === 0 && match[1] === "" && !isAtStart) continue;
    const fence = match[2]!;
    if (open === null) open = fence;
    else if (fence[0] === open[0] && fence.length >= open.length && match[3]!.trim() === "") {
      open = null;
    }
  }
  return open;
}

/** The backticks that are open at the end of a line, or `null`. */
function openTicks(line: string): string | null {
  let open: string | null = null;
  for (const [run] of line.matchAll(/`+/g)) {
    if (open === null) open = run;
    else if (run.length === open.length) open = null;
  }
  return open;
}

/** A text without its code: fences that are closed, and code within a line. In one pass. */
export function withoutCode(text: string): string {
  const kept: string[] = [];
  // Lines since the fence that is open, and that fence.
  let inside: string[] = [];
  let open: string | null = null;
  for (const line of text.split("\n")) {
    const fence = /^[ \t]*(`{3,}|~{3,}(?!~))([^`]*)$/.exec(line);
    if (open === null) {
      if (fence === null) kept.push(line);
      else {
        open = fence[1]!;
        inside = [line];
      }
      continue;
    }
    const isEnd = fence !== null && fence[1]![0] === open[0] && fence[1]!.length >= open.length &&
      fence[2]!.trim() === "";
    if (isEnd) open = null;
    else inside.push(line);
  }
  if (open !== null) kept.push(...inside);
  return kept.join("\n").replace(/(`{1,2})[^`\n]{1,1000}\1/g, " ");
}
