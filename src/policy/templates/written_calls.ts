/** Calls and answers of tools that a text has written out. */
import { readAnswer } from "../answers/read_answer.ts";
import type { ToolCall } from "../message.ts";

/** Calls written out in a content, or `null`. */
export function toolCallsIn(content: string): readonly ToolCall[] | null {
  const { calls } = readAnswer(content);
  return calls.length === 0 ? null : calls;
}

/** Responses written out in a tool's content, or `null`. */
export function toolResponsesIn(text: string): string[] | null {
  const open = "<tool_response>\n";
  const close = "\n</tool_response>";
  const blocks: string[] = [];
  let at = text.indexOf(open);
  while (at >= 0) {
    const end = text.indexOf(close, at + open.length);
    if (end < 0) break;
    blocks.push(text.slice(at + open.length, end));
    at = text.indexOf(open, end + close.length);
  }
  return blocks.length === 0 ? null : blocks;
}
