import type { Message } from "../../message.ts";
import { readMessage } from "./family.ts";

/** `User: …` and `Assistant: …`; what stands before the first is the system's. */
export function parsePrefixed(text: string): Message[] {
  const body = text.replace(/^<[^>\n]+>/, "");
  const starts = [...body.matchAll(/(?:^|\n|>)(User|Assistant):/g)];
  if (starts.length === 0) return [];
  const messages = starts.map((start, index) => {
    const next = starts[index + 1];
    // A ">" in front of a role closes the end-of-sequence token of the turn before.
    const end = next === undefined ? body.length : next.index + (next[0][0] === ">" ? 1 : 0);
    const content = withoutEndToken(body.slice(start.index + start[0].length, end));
    const isComplete = next !== undefined || content.trim() !== "";
    return readMessage(start[1]!.toLowerCase(), content, isComplete);
  });
  const system = body.slice(0, starts[0]!.index).trim();
  return system === "" ? messages : [readMessage("system", system, true), ...messages];
}

/** A content without the `<…>` at its end. */
function withoutEndToken(content: string): string {
  const trimmed = content.trimEnd();
  if (!trimmed.endsWith(">")) return content;
  const start = trimmed.lastIndexOf("<");
  const token = trimmed.slice(start);
  return start >= 0 && token.length > 2 && !/[\n>]/.test(token.slice(0, -1))
    ? content.slice(0, start)
    : content;
}
