import type { Message } from "../../message.ts";
import { toolCallsIn, toolResponsesIn } from "../written_calls.ts";

/** A message that was read from rendered text; its content loses surrounding white space. */
export function readMessage(role: string, rawContent: string, isComplete: boolean): Message {
  const content = rawContent.trim();
  return {
    role: role.trim(),
    content,
    isComplete,
    toolCalls: toolCallsIn(content),
    toolResponses: toolResponsesIn(content),
  };
}
