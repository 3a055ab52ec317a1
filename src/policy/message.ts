import { ValidationError } from "../errors.ts";
import { describe } from "./batch_shape.ts";

/** A call of a tool by an assistant. */
export interface ToolCall {
  /** Name of the tool. */
  readonly name: string;
  /** Its arguments. */
  readonly arguments: unknown;
  /** Anything else that the model wrote into the call. */
  readonly [key: string]: unknown;
}

/** A part of a message that has several. */
export interface ContentPart {
  /** Kind of the part, such as `"text"`. */
  readonly type: string;
  /** Text of a text part. */
  readonly text?: string | undefined;
  /** Anything else. */
  readonly [key: string]: unknown;
}

/** One message of a conversation. */
export interface Message {
  /** `"user"`, `"assistant"`, `"system"`, `"tool"` or any; `"<none>"` marks an empty place. */
  readonly role: string;
  /** What was said. */
  readonly content: string | readonly ContentPart[];
  /** Whether the message came to its end. Default `true`. */
  readonly isComplete?: boolean | undefined;
  /** Tools that the message calls. */
  readonly toolCalls?: readonly ToolCall[] | null | undefined;
  /** Answers of tools. */
  readonly toolResponses?: readonly string[] | null | undefined;
}

/** The role of a place that holds no message; rendering skips it. */
export const NO_ROLE = "<none>";

/** Whether a value is a message. */
export function isMessage(value: unknown): value is Message {
  if (typeof value !== "object" || value === null) return false;
  const { role, content } = value as Partial<Message>;
  return typeof role === "string" && (typeof content === "string" || Array.isArray(content));
}

/** The value as a message. */
export function asMessage(value: unknown): Message {
  if (isMessage(value)) return value;
  throw new ValidationError(
    `A message needs a role (text) and a content (text or parts), got ${describe(value)}`,
  );
}

/** The text of a message: its content, or its text parts one after the other. */
export function textOf(message: Message): string {
  if (typeof message.content === "string") return message.content;
  return message.content.map((part) => part.text ?? "").join("");
}
