/** Messages as chat templates see them. */
import { ValidationError } from "../../errors.ts";
import type { AnswerFormat } from "../answers/model_marks.ts";
import { exactOf } from "../exact_numbers.ts";
import { type Message, textOf } from "../message.ts";
import { ArgumentsDict, ArgumentsText, dumps, fromJs, parseJson } from "./jinja/mod.ts";
import { isWrittenIn, markOfCalls } from "./written_calls.ts";

/** Keys of a message that have a meaning here, and what templates call them. */
const known: Readonly<Record<string, string | null>> = {
  role: "role",
  content: "content",
  isComplete: null,
  callsInContent: null,
  toolCalls: "tool_calls",
  tool_calls: "tool_calls",
  toolCallFaults: null,
  toolResponses: null,
  reasoning_content: "reasoning_content",
  reasoningContent: "reasoning_content",
  reasoning: "reasoning",
  thinking: "thinking",
  tool_call_id: "tool_call_id",
  toolCallId: "tool_call_id",
  name: "name",
};

/** Names that reasoning goes by; the first is the one that most templates read. */
export const reasoningNames = ["reasoning_content", "thinking", "reasoning"];

/**
 * A message as templates expect it: one dict, or one for each answer of a tool. Keys whose value is
 * `null` are left out, as transformers leaves them out; reasoning is there under each of its names.
 *
 * Calls and answers that the content has written out already are not given a second time, so that a
 * conversation that was read from text renders as it was.
 *
 * It must have passed {@linkcode checkMessage}.
 *
 * @throws {ValidationError} A key is a misspelt one.
 */
export function templateMessages(
  message: Message,
  { keepsParts, answerFormat }: {
    keepsParts: boolean;
    answerFormat?: Partial<AnswerFormat> | undefined;
  },
): Record<string, unknown>[] {
  const dict: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(message)) {
    const name = Object.hasOwn(known, key) ? known[key]! : passedThrough(key);
    if (name !== null && value !== null && value !== undefined) dict[name] = value;
  }
  const content = contentOf(message, keepsParts);
  if (content !== null) dict.content = content;
  addReasoning(dict);
  const { role } = message;
  if (role === "tool") {
    // Only a message that was read from text has them apart. What a tool says is never searched.
    const answers = message.toolResponses ?? [];
    if (answers.length > 0) return answers.map((answer) => ({ ...dict, content: answer }));
  }
  const calls = message.tool_calls ?? message.toolCalls ?? [];
  delete dict.tool_calls;
  const areWritten = message.tool_calls === undefined && calls.length > 0 &&
    hasWritten(message, calls, answerFormat);
  if (calls.length > 0 && !areWritten) dict.tool_calls = calls.map(templateCall);
  // An empty list of OpenAI's shape stays, as in transformers: some templates only look for the key.
  else if (message.tool_calls?.length === 0) dict.tool_calls = [];
  return [dict];
}

function hasWritten(
  message: Message,
  calls: readonly Readonly<Record<string, unknown>>[],
  format: Partial<AnswerFormat> | undefined,
): boolean {
  const content = textOf(message);
  const { callsInContent: mark } = message;
  return mark !== undefined && mark === markOfCalls(content, calls) ||
    isWrittenIn(content, calls, format);
}

function passedThrough(key: string): string {
  const plain = (name: string) => name.replaceAll("_", "").toLowerCase().replace(/s$/, "");
  const near = Object.keys(known).find((name) => plain(name) === plain(key));
  if (near === undefined) return key;
  throw new ValidationError(`A message has no "${key}"; did you mean "${near}"?`);
}

/**
 * Checks that a message is an object whose content can be rendered: a text, `null`, or text parts.
 *
 * @throws {ValidationError} Names the message and the part, by their places from 0 on.
 */
export function checkMessage(message: unknown, index: number): void {
  const place = `Message ${index}`;
  if (typeof message !== "object" || message === null || Array.isArray(message)) {
    throw new ValidationError(
      `${place} must be an object such as { role: "user", content: "…" }, got ${shown(message)}`,
    );
  }
  const { content } = message as { content?: unknown };
  if (content === null || content === undefined || typeof content === "string") return;
  if (!Array.isArray(content)) {
    throw new ValidationError(
      `The content of message ${index} must be a text, null, or an array of text parts, got ` +
        shown(content),
    );
  }
  // Not forEach(): it would skip the holes of a sparse array.
  for (let at = 0; at < content.length; at++) checkPart(content[at], `${place}, part ${at}`);
}

function checkPart(part: unknown, place: string): void {
  const wanted = 'a text part is { type: "text", text: "…" }';
  if (typeof part !== "object" || part === null || Array.isArray(part)) {
    throw new ValidationError(`${place} is ${shown(part)}; ${wanted}`);
  }
  const { type, text } = part as { type?: unknown; text?: unknown };
  if (typeof type !== "string") {
    throw new ValidationError(`${place} has no type; ${wanted}`);
  }
  if (type !== "text") {
    throw new ValidationError(
      `${place} is of type ${JSON.stringify(type)}; only text parts can be rendered. Images and ` +
        "other media are not supported",
    );
  }
  if (typeof text === "string") return;
  throw new ValidationError(`${place} has no text, but ${shown(text)}; ${wanted}`);
}

/** A wrong value in a few words. */
function shown(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return "an object";
  return `the ${typeof value} ${String(value).slice(0, 40)}`;
}

function contentOf({ content }: Message, keepsParts: boolean): unknown {
  if (content === null || content === undefined || typeof content === "string") {
    return content ?? null;
  }
  // A space between them, as SGLang's servers write.
  return keepsParts ? [...content] : content.map((part) => part.text).join(" ");
}

function addReasoning(dict: Record<string, unknown>): void {
  const reasoning = reasoningNames.map((name) => dict[name]).find((value) => value !== undefined);
  if (reasoning === undefined) return;
  dict.thinking ??= reasoning;
  dict.reasoning_content = reasoning;
}

/** A call as templates expect it: OpenAI's shape. */
function templateCall(call: Record<string, unknown>): Record<string, unknown> {
  const wrapped = call.function;
  if (typeof wrapped === "object" && wrapped !== null) {
    const { arguments: given } = wrapped as { arguments?: unknown };
    return { ...call, function: { ...wrapped, arguments: argumentsOf(given) } };
  }
  const { name, arguments: given, id, type: _, ...rest } = call;
  const value = argumentsOf(given);
  return {
    ...rest,
    ...(id === undefined ? {} : { id }),
    type: "function",
    function: { name, arguments: value },
    // Templates that know no other shape read them here.
    name,
    arguments: value,
  };
}

/**
 * Arguments that a template can use as a dict and as JSON: some write them with `tojson`, some put
 * them behind a text, some loop over them. JSON as a text is read without losing what Python keeps.
 */
function argumentsOf(given: unknown): unknown {
  if (typeof given === "string") {
    const value = parsed(given);
    return value instanceof Map ? new ArgumentsText(given, value) : given;
  }
  const value = fromJs(exactOf(given));
  return value instanceof Map ? new ArgumentsDict(value, () => dumps(value)) : given;
}

function parsed(json: string): unknown {
  try {
    return fromJs(parseJson(json));
  } catch {
    return undefined;
  }
}
