import { ValidationError } from "../errors.ts";
import { jsonExcess } from "../internal/json.ts";
import type { ToolCallFault } from "./answers/answer.ts";
import { describe } from "./batch_shape.ts";

/** A call of a tool by an assistant. */
export interface ToolCall {
  /** Name of the tool. */
  readonly name: string;
  /** Its arguments: an object, or its JSON as a text. */
  readonly arguments: unknown;
  /** What the model, or the server, calls it; some templates want one. */
  readonly id?: string | undefined;
  /** Anything else that the model wrote into the call. */
  readonly [key: string]: unknown;
}

/** A call of a tool in OpenAI's shape. */
export interface OpenAIToolCall {
  /** What its answer refers to. */
  readonly id?: string | undefined;
  /** Always `"function"`. */
  readonly type?: string | undefined;
  /** The call. */
  readonly function: {
    /** Name of the tool. */
    readonly name: string;
    /** Its arguments: their JSON as a text, or an object. */
    readonly arguments: unknown;
  };
  /** Anything else. */
  readonly [key: string]: unknown;
}

/** A part of a message that has several. */
export interface ContentPart {
  /** Kind of the part. Only `"text"` can be rendered. */
  readonly type: string;
  /** Text of a text part. */
  readonly text?: string | undefined;
  /** Anything else. */
  readonly [key: string]: unknown;
}

/**
 * One message of a conversation. OpenAI's shape will do as it is: `tool_calls`, `tool_call_id`,
 * `content: null`, `reasoning_content`. A key that is not named here is passed through: templates see
 * it under its own name.
 */
export interface Message {
  /** `"user"`, `"assistant"`, `"system"`, `"tool"` or any; `"<none>"` marks an empty place. */
  readonly role: string;
  /** What was said; `null` where there is nothing but tool calls. */
  readonly content: string | readonly ContentPart[] | null;
  /** Whether the message came to its end. Default `true`. */
  readonly isComplete?: boolean | undefined;
  /** Tools that the message calls. */
  readonly toolCalls?: readonly (ToolCall | OpenAIToolCall)[] | null | undefined;
  /** The same under OpenAI's name. */
  readonly tool_calls?: readonly (ToolCall | OpenAIToolCall)[] | null | undefined;
  /**
   * Mark of calls that a reader of your own found in the content of a sampled answer: a template does
   * not write them again. It holds as long as neither the content nor the calls are changed.
   */
  readonly callsInContent?: string | undefined;
  /** What looks like a call in an answer that was sampled, and is none. */
  readonly toolCallFaults?: readonly ToolCallFault[] | null | undefined;
  /** Answers of tools, one by one: a message of role `tool` is rendered with these, not its content. */
  readonly toolResponses?: readonly string[] | null | undefined;
  /** What the assistant thought before it answered. `reasoning` and `thinking` are the same. */
  readonly reasoning_content?: string | null | undefined;
  /** The call that a message of role `tool` answers. */
  readonly tool_call_id?: string | null | undefined;
  /** Name of the speaker, or of the tool that answers. */
  readonly name?: string | null | undefined;
  /** Anything else that a template reads. */
  readonly [key: string]: unknown;
}

/** The role of a place that holds no message; rendering skips it. */
export const NO_ROLE = "<none>";

/** Whether a value is a message. */
export function isMessage(value: unknown): value is Message {
  if (typeof value !== "object" || value === null) return false;
  const { role, content } = value as Partial<Message>;
  if (typeof role !== "string") return false;
  return typeof content === "string" || Array.isArray(content) || content === null ||
    content === undefined && hasCalls(value);
}

function hasCalls(value: Partial<Message>): boolean {
  return Array.isArray(value.tool_calls) || Array.isArray(value.toolCalls);
}

/** The value as a message. */
export function asMessage(value: unknown): Message {
  if (isMessage(value)) return value;
  throw new ValidationError(
    `A message needs a role (text) and a content (text, parts or null), got ${describe(value)}`,
  );
}

/** The text of a message: its content, or its text parts one after the other. */
export function textOf(message: Message): string {
  const { content } = message;
  if (typeof content === "string") return content;
  return (content ?? []).map((part) => part.text ?? "").join("");
}

/** Tools that a message calls, in one shape; arguments that are JSON as a text are read. */
export function callsOf(message: Message): readonly ToolCall[] {
  return (message.tool_calls ?? message.toolCalls ?? []).map((call) => {
    const given = "function" in call && typeof call.function === "object" && call.function !== null
      ? call.function as { name: string; arguments: unknown }
      : call as ToolCall;
    return { name: given.name, arguments: readArguments(given.arguments) };
  });
}

function readArguments(value: unknown): unknown {
  if (typeof value !== "string" || jsonExcess(value) !== null) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
