import type { Message } from "../policy/message.ts";

/** What tells two messages apart: all that a template can read of them. */
export function messageKey(message: Message): string {
  const said = Object.entries(message)
    .filter(([name, value]) => !ownNotes.includes(name) && !isNothing(name, value))
    .sort(([a], [b]) => a < b ? -1 : 1);
  return JSON.stringify(said);
}

/** What is noted of an answer on this side. */
const ownNotes = ["callsInContent", "isComplete"];

const lists = ["tool_calls", "toolCalls", "toolCallFaults", "toolResponses"];

/** Clients write no calls as `[]`, as `null`, or not at all. */
function isNothing(name: string, value: unknown): boolean {
  if (value === undefined || value === null) return true;
  return lists.includes(name) && Array.isArray(value) && value.length === 0;
}

/** Whether a conversation begins with the messages of another. */
export function startsWith(
  messages: readonly Message[],
  start: readonly Message[],
): boolean {
  return messages.length >= start.length && start.every((message, index) => {
    const other = messages[index]!;
    return other === message || messageKey(other) === messageKey(message);
  });
}
