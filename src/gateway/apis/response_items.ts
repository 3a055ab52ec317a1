import { isRecord } from "../../internal/json.ts";
import type { Message } from "../../policy/message.ts";
import type { ShownCall } from "../asked.ts";
import { assistantMessage } from "../assistant_message.ts";
import { invalid } from "../fault.ts";
import type { RecordedTurn } from "../recorded_turn.ts";
import { contentOf } from "./chat_messages.ts";
import { Fields } from "./fields.ts";

/** What an API may ask of what was recorded before. */
export interface AnswerHistory {
  /** The conversation up to and with an answer, as its agent saw it. */
  conversation(id: string): readonly Message[] | null;
  /** An answer by its id. */
  answer(id: string): RecordedTurn | null;
  /** The answer that made a call. */
  answerOfCall(callId: string): RecordedTurn | null;
}

/** The conversation of a request: what came before, what is said, by whom. */
export function conversationOf(fields: Fields, history: AnswerHistory): readonly Message[] {
  const before = fields.text("previous_response_id");
  const earlier = before === undefined ? [] : history.conversation(before);
  if (earlier === null) {
    throw invalid(`This session has no response "${before}"`, "previous_response_id");
  }
  const instructions = fields.text("instructions");
  const system = instructions === undefined ? [] : [{ role: "system", content: instructions }];
  // Instructions are those of one response: earlier ones do not count any more.
  const kept = system.length > 0 && earlier[0]?.role === "system" ? earlier.slice(1) : earlier;
  const input = fields.raw("input");
  const said = typeof input === "string"
    ? [{ role: "user", content: input }]
    : items(input, history);
  const all = [...system, ...kept, ...said];
  if (all.length === 0) throw invalid('"input" must hold at least one item', "input");
  return all;
}

/** An assistant's message that is put together of several items. */
interface Pending {
  content: string;
  reasoning: string | null;
  readonly calls: ShownCall[];
}

function items(input: unknown, history: AnswerHistory): readonly Message[] {
  if (!Array.isArray(input)) throw invalid('"input" must be a string or a list of items', "input");
  const out: Message[] = [];
  let pending: Pending | null = null;
  const flush = () => {
    if (pending !== null) out.push(assistantMessage(pending));
    pending = null;
  };
  const assistant = (): Pending => pending ??= { content: "", reasoning: null, calls: [] };
  for (const [index, item] of input.entries()) {
    const path = `input[${index}]`;
    if (!isRecord(item)) throw invalid(`"${path}" must be an object`, path);
    const fields = new Fields(item, `${path}.`);
    switch (item.type ?? "message") {
      case "message": {
        const role = fields.word("role", ["system", "developer", "user", "assistant"]);
        if (role === undefined) throw invalid(`"${path}.role" is missing`, `${path}.role`);
        const content = contentOf(item.content, `${path}.content`) ?? "";
        if (role === "assistant") assistant().content += content;
        else {
          flush();
          out.push({ role: role === "developer" ? "system" : role, content });
        }
        break;
      }
      case "reasoning": {
        const text = reasoningOf(item);
        if (text !== "") assistant().reasoning = (pending!.reasoning ?? "") + text;
        break;
      }
      case "function_call":
        assistant().calls.push({
          id: fields.needText("call_id"),
          name: fields.needText("name"),
          arguments: fields.needText("arguments"),
        });
        break;
      case "function_call_output": {
        flush();
        const content = contentOf(item.output, `${path}.output`) ?? "";
        out.push({ role: "tool", content, tool_call_id: fields.needText("call_id") });
        break;
      }
      case "item_reference":
        refer(fields.needText("id"), assistant(), { history, path });
        break;
      default:
        throw invalid(`"${path}.type" "${String(item.type).slice(0, 80)}" is not supported`, path);
    }
  }
  flush();
  return out;
}

function reasoningOf(item: Readonly<Record<string, unknown>>): string {
  const { content, summary } = item;
  const parts = Array.isArray(content) && content.length > 0 ? content : summary;
  if (!Array.isArray(parts)) return "";
  return parts.map((part) => isRecord(part) && typeof part.text === "string" ? part.text : "")
    .join("");
}

/** Puts an item of an earlier answer in, which the agent names only. */
function refer(
  id: string,
  pending: Pending,
  { history, path }: { readonly history: AnswerHistory; readonly path: string },
): void {
  const [, kind, rest = ""] = /^(msg|rs|fc)_(.+)$/.exec(id) ?? [];
  const record = kind === "fc" ? history.answerOfCall(rest) : history.answer(`resp_${rest}`);
  if (kind === undefined || record === null) {
    throw invalid(`This session has no item "${id.slice(0, 100)}"`, `${path}.id`);
  }
  const { content, reasoning, calls } = record.shown;
  if (kind === "msg") pending.content += content;
  else if (kind === "rs") pending.reasoning = reasoning;
  else pending.calls.push(calls.find((call) => call.id === rest)!);
}
