import { thoughtMarks } from "../policy/answers/answer.ts";
import { allCallMarks } from "../policy/answers/model_marks.ts";

/** What of a text can be shown already. */
export interface Shown {
  /** What is said. */
  readonly content: string;
  /** What is thought. */
  readonly reasoning: string;
}

/** How the text of an answer begins. */
export interface TextGateOptions {
  /** Whether the prompt has opened the thoughts. */
  readonly isThinking: boolean;
  /** Whether tools may be called. */
  readonly hasTools: boolean;
  /** Hold everything back: what the text says is known at its end only. */
  readonly holdsAll: boolean;
}

const opens = thoughtMarks.map(([open]) => open);
const closes = thoughtMarks.map(([, close]) => close);
const allMarks: readonly string[] = [...opens, ...allCallMarks, ...closes];
const nothing: Shown = { content: "", reasoning: "" };

/**
 * Lets the text of an answer through while it is made, as far as it is sure what it is: thoughts, or
 * something said. From where a call of a tool begins, all is held back until the answer has ended.
 * Each character is looked at a bounded number of times.
 */
export class TextGate {
  readonly #hasTools: boolean;
  #state: "start" | "said" | "thought" | "held";
  /** What the present thoughts end with. */
  #closes: readonly string[] = closes;
  #pending = "";
  #isAfterThought = false;

  constructor({ isThinking, hasTools, holdsAll }: TextGateOptions) {
    this.#hasTools = hasTools;
    this.#state = holdsAll ? "held" : isThinking ? "thought" : "start";
  }

  /** Takes a part of the text; gives what can be shown. */
  push(text: string): Shown {
    if (this.#state === "held" || text === "") return nothing;
    this.#pending += text;
    let content = "";
    let reasoning = "";
    for (;;) {
      switch (this.#state) {
        case "start": {
          const rest = this.#pending.trimStart();
          if (rest === "") return { content, reasoning };
          // A call may be bare JSON, the whole of an answer.
          this.#state = this.#hasTools && /^[{[]/.test(rest) ? "held" : "said";
          if (this.#isAfterThought) this.#pending = rest;
          break;
        }
        case "thought": {
          const end = first(this.#pending, this.#closes);
          if (end === null) {
            reasoning += this.#takeSafe(this.#closes);
            return { content, reasoning };
          }
          reasoning += this.#pending.slice(0, end.at).trimEnd();
          this.#pending = this.#pending.slice(end.at + end.mark.length);
          this.#isAfterThought = true;
          this.#state = "start";
          break;
        }
        case "said": {
          const next = first(this.#pending, allMarks);
          if (next === null) {
            content += this.#takeSafe(allMarks);
            return { content, reasoning };
          }
          content += this.#pending.slice(0, next.at).trimEnd();
          const index = opens.indexOf(next.mark);
          if (index < 0 || content !== "") {
            // Thoughts behind something said are put in order at the end.
            this.#state = "held";
            return { content, reasoning };
          }
          this.#closes = [closes[index]!];
          this.#pending = this.#pending.slice(next.at + next.mark.length);
          this.#state = "thought";
          break;
        }
        case "held":
          return { content, reasoning };
      }
    }
  }

  /** What cannot be the beginning of a mark, without white space at its end. */
  #takeSafe(marks: readonly string[]): string {
    let length = this.#pending.length;
    for (let tail = Math.min(LONGEST_MARK, length); tail > 0; tail--) {
      const end = this.#pending.slice(-tail);
      if (!marks.some((mark) => mark.length > tail && mark.startsWith(end))) continue;
      length -= tail;
      break;
    }
    const safe = this.#pending.slice(0, length).trimEnd();
    this.#pending = this.#pending.slice(safe.length);
    return safe;
  }
}

const LONGEST_MARK = Math.max(...allMarks.map((mark) => mark.length));

function first(text: string, marks: readonly string[]): { mark: string; at: number } | null {
  let found: { mark: string; at: number } | null = null;
  for (const mark of marks) {
    const at = text.indexOf(mark);
    if (at >= 0 && (found === null || at < found.at)) found = { mark, at };
  }
  return found;
}
