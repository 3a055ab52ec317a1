import type { Message } from "../../message.ts";
import { toolCallsIn, toolResponsesIn } from "../written_calls.ts";

/** A chat template that is built in, and how to read what it wrote. */
export interface TemplateFamily {
  /** Its name. */
  readonly name: string;
  /** Words in a model's name for which it is guessed. */
  readonly keywords: readonly string[];
  /** Jinja source, which renders as TorchRL's template of this name. */
  readonly template: string;
  /** Turns rendered text back into messages; takes one pass over the text. */
  parse(text: string): Message[];
}

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
