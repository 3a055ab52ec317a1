/** Answers of gpt-oss: messages in channels. */
import { fault, type Found, namedCall, type ReadAnswer, sortedOut } from "./answer.ts";

const MESSAGE = "<|message|>";
/** What channels are written with, and nothing else is. */
export const harmonyMarks = ["<|channel|>", MESSAGE] as const;
const ends = ["<|end|>", "<|call|>", "<|return|>", "<|start|>"];

/** Whether an answer is written in channels. */
export function isHarmony(text: string): boolean {
  return text.includes("<|channel|>") && text.includes(MESSAGE);
}

/** Whether it begins as one of gpt-oss does: others may quote channels. */
export function beginsAsHarmony(text: string): boolean {
  const header = text.slice(0, text.indexOf(MESSAGE));
  return isHarmony(text) &&
    /^\s*(?:<\|start\|>\s*)?(?:assistant\s*)?(?:to=[\w.-]+\s*)?<\|channel\|>/.test(header);
}

/** Reads the channels: `analysis` is thought, `to=functions.…` a call, the rest is said. */
export function readHarmony(text: string): ReadAnswer {
  const thoughts: string[] = [];
  const said: string[] = [];
  const found: Found[] = [];
  // Each header stands before a <|message|>; its text goes to the next mark.
  let header = "";
  const [first = "", ...parts] = text.split(MESSAGE);
  header = first;
  for (const part of parts) {
    const at = firstOf(part, ends);
    const body = part.slice(0, at);
    const recipient = /to=([\w.-]+)/.exec(header)?.[1];
    if (recipient !== undefined && recipient !== "user") {
      const name = recipient.replace(/^functions\./, "");
      const isCut = at === part.length && part === parts.at(-1);
      const call = namedCall(name, body, header + MESSAGE + body);
      found.push(
        isCut && "fault" in call
          ? fault(body, "the arguments are not JSON; the call may have been cut off")
          : call,
      );
    } else if (part.startsWith("<|call|>", at)) {
      found.push(
        fault(header + MESSAGE + body, "the call names no tool: there is no to=functions.…"),
      );
    } else if (/<\|channel\|>\s*analysis/.test(header)) thoughts.push(body);
    else said.push(body);
    header = part.slice(at);
  }
  return {
    reasoning: thoughts.length === 0 ? null : thoughts.join("\n"),
    content: said.join("\n"),
    ...sortedOut(found),
  };
}

function firstOf(text: string, marks: readonly string[]): number {
  const places = marks.map((mark) => text.indexOf(mark)).filter((at) => at >= 0);
  return places.length === 0 ? text.length : Math.min(...places);
}
