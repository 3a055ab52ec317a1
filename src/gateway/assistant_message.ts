import type { Message, OpenAIToolCall } from "../policy/message.ts";
import type { ShownAnswer, ShownCall } from "./asked.ts";

/** An answer as the message that an agent sends back, whichever API it speaks. */
export function assistantMessage({ content, reasoning, calls }: ShownAnswer): Message {
  return {
    role: "assistant",
    content,
    ...(reasoning === null ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls.map(openAICall) }),
  };
}

/** A call of a tool in OpenAI's shape. */
export function openAICall({ id, name, arguments: json }: ShownCall): OpenAIToolCall {
  return { id, type: "function", function: { name, arguments: json } };
}
