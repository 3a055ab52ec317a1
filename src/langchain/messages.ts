import { AIMessage, type BaseMessage, type ToolCall, ToolMessage } from "@langchain/core/messages";
import { ValidationError } from "../errors.ts";

type Json = Readonly<Record<string, unknown>>;

const roles: Readonly<Record<string, string>> = {
  human: "user",
  user: "user",
  system: "system",
  developer: "developer",
  ai: "assistant",
  assistant: "assistant",
  tool: "tool",
};

/** Messages of LangChain as those of a chat request. */
export function chatMessagesOf(messages: readonly BaseMessage[]): Json[] {
  return messages.map((message) => {
    const role = roles[message.type];
    if (role === undefined) {
      throw new ValidationError(`A message of type "${message.type}" cannot be sent to a model`);
    }
    const content = textOf(message);
    if (ToolMessage.isInstance(message)) {
      return { role, content, tool_call_id: message.tool_call_id };
    }
    if (!AIMessage.isInstance(message)) return { role, content };
    const calls = (message.tool_calls ?? []).map(callOf);
    const { reasoning_content: reasoning } = message.additional_kwargs;
    return {
      role,
      content,
      ...(typeof reasoning === "string" ? { reasoning_content: reasoning } : {}),
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    };
  });
}

function callOf({ id, name, args }: ToolCall): Json {
  return { id, type: "function", function: { name, arguments: JSON.stringify(args) } };
}

function textOf({ content, type }: BaseMessage): string {
  if (typeof content === "string") return content;
  return content.map((part) => {
    if (part.type === "text" && typeof part.text === "string") return part.text;
    // Calls are in a list of their own, thoughts too.
    if (part.type === "tool_call" || part.type === "reasoning") return "";
    throw new ValidationError(`A part "${part.type}" of a message of type "${type}" is no text`);
  }).join("");
}
