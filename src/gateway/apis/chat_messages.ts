import { isRecord } from "../../internal/json.ts";
import type { Message } from "../../policy/message.ts";
import { invalid } from "../fault.ts";
import { Fields } from "./fields.ts";

const ROLES = ["system", "developer", "user", "assistant", "tool"] as const;
const KNOWN = [
  "role",
  "content",
  "name",
  "tool_calls",
  "tool_call_id",
  "reasoning_content",
  "reasoning",
];
/** Fields that clients send back and that say nothing. */
const SILENT = ["refusal", "annotations", "audio", "function_call", "id", "provider_options"];

/**
 * Messages of OpenAI's chat API.
 *
 * @throws {GatewayRefusal} That names the place.
 */
export function chatMessages(value: unknown): readonly Message[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw invalid('"messages" must be a list of at least one message', "messages");
  }
  return value.map((one, index) => chatMessage(one, `messages[${index}].`));
}

function chatMessage(value: unknown, path: string): Message {
  if (!isRecord(value)) {
    throw invalid(`"${path.slice(0, -1)}" must be an object`, path.slice(0, -1));
  }
  const fields = new Fields(value, path);
  const role = fields.word("role", ROLES) ?? fields.needText("role") as never;
  for (const [name, field] of Object.entries(value)) {
    if (KNOWN.includes(name) || field === null || field === undefined) continue;
    // An empty or a missing one says nothing; a full one cannot be rendered.
    if (SILENT.includes(name) && (name === "id" || isEmpty(field))) continue;
    throw invalid(
      `"${path}${name.slice(0, 100)}" cannot be rendered`,
      `${path}${name.slice(0, 100)}`,
    );
  }
  const calls = fields.objects("tool_calls")?.map((call, index) =>
    toolCall(call, `${path}tool_calls[${index}].`)
  );
  const reasoning = fields.text("reasoning_content") ?? fields.text("reasoning");
  const content = contentOf(value.content, `${path}content`);
  if (content === null && role !== "assistant") {
    fields.wrong("content", "a string or a list of parts");
  }
  return {
    // Templates know no other role for what the developer says.
    role: role === "developer" ? "system" : role,
    // As SGLang has it: templates ask the content of each message.
    content: content ?? "",
    ...named("name", fields.text("name")),
    ...named("tool_call_id", fields.text("tool_call_id")),
    ...named("reasoning_content", reasoning),
    ...(calls === undefined || calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

function named(name: string, value: string | undefined): Readonly<Record<string, string>> {
  return value === undefined ? {} : { [name]: value };
}

function isEmpty(value: unknown): boolean {
  return value === "" || (Array.isArray(value) && value.length === 0);
}

/** The text of a content: a text, or parts that are texts. */
export function contentOf(value: unknown, path: string): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) throw invalid(`"${path}" must be a string or a list of parts`, path);
  return value.map((part, index) => {
    const { type, text } = isRecord(part) ? part : {} as Readonly<Record<string, unknown>>;
    const isText = type === "text" || type === "input_text" || type === "output_text";
    if (isText && typeof text === "string") return text;
    throw invalid(
      `"${path}[${index}]" must be a text part: images, audio and files are not supported`,
      `${path}[${index}]`,
    );
  }).join("");
}

function toolCall(value: Readonly<Record<string, unknown>>, path: string): {
  readonly id?: string;
  readonly type: "function";
  readonly function: { readonly name: string; readonly arguments: string };
} {
  const fields = new Fields(value, path);
  const called = new Fields(fields.needObject("function"), `${path}function.`);
  const id = fields.text("id");
  const args = called.raw("arguments");
  return {
    ...(id === undefined ? {} : { id }),
    type: "function",
    function: {
      name: called.needText("name"),
      arguments: typeof args === "string" ? args : JSON.stringify(args ?? {}),
    },
  };
}
