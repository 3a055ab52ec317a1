/** Calls and answers of tools that a text has written out. */
import type { ToolCall } from "../message.ts";

/** Calls written out in a content, or `null`. What is not JSON stays in the content only. */
export function toolCallsIn(content: string): ToolCall[] | null {
  const calls = between(content, "<tool_call>\n", "\n</tool_call>")
    .map(parseCall)
    .filter((call) => call !== null);
  return calls.length === 0 ? null : calls;
}

/** Responses written out in a tool's content, or `null`. */
export function toolResponsesIn(text: string): string[] | null {
  const blocks = between(text, "<tool_response>\n", "\n</tool_response>");
  return blocks.length === 0 ? null : blocks;
}

/** What stands between an opening and the next closing, in one pass over the text. */
function between(text: string, open: string, close: string): string[] {
  const found: string[] = [];
  let at = text.indexOf(open);
  while (at >= 0) {
    const end = text.indexOf(close, at + open.length);
    if (end < 0) break;
    found.push(text.slice(at + open.length, end));
    at = text.indexOf(open, end + close.length);
  }
  return found;
}

function parseCall(json: string): ToolCall | null {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null && "name" in value
      ? value as ToolCall
      : null;
  } catch {
    return null;
  }
}
