/** Messages of Anthropic's API: lists of blocks. */
import { isRecord } from "../../internal/json.ts";
import type { Message } from "../../policy/message.ts";
import type { ShownCall } from "../asked.ts";
import { assistantMessage } from "../assistant_message.ts";
import { invalid } from "../fault.ts";
import { Fields } from "./fields.ts";

/** The conversation of a request: its system prompt, and what users, assistants and tools said. */
export function conversationOf(fields: Fields): readonly Message[] {
  const given = fields.objects("messages");
  if (given === undefined || given.length === 0) {
    throw invalid('"messages" must be a list of at least one message', "messages");
  }
  const system = fields.raw("system");
  const first = system === undefined
    ? []
    : [{ role: "system", content: textOfBlocks(system, "system") }];
  return [...first, ...given.flatMap((one, index) => messagesOf(one, `messages[${index}]`))];
}

/** Answers of tools are blocks of the user's message there, and messages of their own here. */
function messagesOf(value: Readonly<Record<string, unknown>>, path: string): Message[] {
  const role = new Fields(value, `${path}.`).word("role", ["user", "assistant", "system"]);
  if (role === undefined) throw invalid(`"${path}.role" is missing`, `${path}.role`);
  const { content } = value;
  if (typeof content === "string") return [{ role, content }];
  if (!Array.isArray(content)) {
    throw invalid(`"${path}.content" must be a string or a list of blocks`, `${path}.content`);
  }
  return role === "assistant"
    ? [assistantOf(content, `${path}.content`)]
    : userMessages(role, content, `${path}.content`);
}

function userMessages(role: string, blocks: readonly unknown[], path: string): Message[] {
  const out: Message[] = [];
  for (const [index, block] of blocks.entries()) {
    const place = `${path}[${index}]`;
    const fields = new Fields(isRecord(block) ? block : {}, `${place}.`);
    if (isRecord(block) && block.type === "tool_result") {
      const { content } = block;
      out.push({
        role: "tool",
        content: content === undefined ? "" : textOfBlocks(content, `${place}.content`),
        tool_call_id: fields.needText("tool_use_id"),
      });
      continue;
    }
    const text = textOfBlocks([block], path);
    const last = out.at(-1);
    if (last?.role === role) out[out.length - 1] = { role, content: `${last.content}${text}` };
    else out.push({ role, content: text });
  }
  return out;
}

function assistantOf(blocks: readonly unknown[], path: string): Message {
  let content = "";
  let reasoning: string | null = null;
  const calls: ShownCall[] = [];
  for (const [index, block] of blocks.entries()) {
    const place = `${path}[${index}]`;
    const given = isRecord(block) ? block : {};
    const fields = new Fields(given, `${place}.`);
    switch (given.type) {
      case "thinking":
        reasoning = (reasoning ?? "") + fields.needText("thinking");
        break;
      case "tool_use":
        calls.push({
          id: fields.needText("id"),
          name: fields.needText("name"),
          arguments: JSON.stringify(fields.object("input") ?? {}),
        });
        break;
      default:
        content += textOfBlocks([block], path);
    }
  }
  return assistantMessage({ content, reasoning, calls });
}

function textOfBlocks(value: unknown, path: string): string {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) throw invalid(`"${path}" must be a string or a list of blocks`, path);
  return value.map((block, index) => {
    if (isRecord(block) && block.type === "text" && typeof block.text === "string") {
      return block.text;
    }
    throw invalid(
      `"${path}[${index}]" must be a text block: images, documents and the like are not supported`,
      `${path}[${index}]`,
    );
  }).join("");
}
