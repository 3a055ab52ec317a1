import { ValidationError } from "../../errors.ts";
import type { Message } from "../message.ts";
import { toolCallsIn, toolResponsesIn } from "./written_calls.ts";
import { customParser, unknownTemplate } from "./registry.ts";

/**
 * Turns rendered text back into messages. Contents lose surrounding white space. A message without
 * its end marker, which only the last can be, has `isComplete: false`; templates without end markers
 * give complete messages.
 *
 * @throws {ValidationError} The text has no message, or the template is unknown or has no parser.
 */
export function parseChat(text: string, templateName: string): Message[] {
  const parse = customParser(templateName) ?? PARSERS[templateName];
  if (parse === undefined) throw unknownTemplate(templateName);
  const messages = parse(text);
  if (messages.length > 0) return messages;
  throw new ValidationError(
    `Could not find a message in ${
      JSON.stringify(text.slice(0, 120))
    }. Often special tokens were ` +
      "left out of the text: generate with skipSpecialTokens: false and noStopTrim: true",
  );
}

const PARSERS: Readonly<Record<string, (text: string) => Message[]>> = {
  chatml_format: parseChatml,
  qwen: parseChatml,
  dialogpt: parseDialogpt,
  falcon: parsePrefixed,
  deepseek: parsePrefixed,
  llama: parseLlama,
};

function parseChatml(text: string): Message[] {
  const turns = text.matchAll(/<\|im_start\|>(.*?)(<\|im_end\|>|<\|endoftext\|>|$)/gs);
  return [...turns].flatMap(([, turn = "", end]) => {
    const newline = turn.indexOf("\n");
    if (newline < 0) return [];
    return [toMessage(turn.slice(0, newline), turn.slice(newline + 1), end !== "")];
  });
}

function parseLlama(text: string): Message[] {
  const turns = text.matchAll(
    /<\|header_start\|>(.*?)<\|header_end\|>(.*?)(<\|eot\|>|(?=<\|header_start\|>)|$)/gs,
  );
  return [...turns].map(([, role = "", content = "", end]) =>
    toMessage(role, content, end === "<|eot|>")
  );
}

/** Users and assistants take turns, each ended by the end-of-sequence token. */
function parseDialogpt(text: string): Message[] {
  const parts = text.split("<|endoftext|>");
  return parts.flatMap((part, index) => {
    const isComplete = index < parts.length - 1;
    if (!isComplete && part.trim() === "") return [];
    return [toMessage(index % 2 === 0 ? "user" : "assistant", part, isComplete)];
  });
}

/** `User: …` and `Assistant: …`; what stands before the first is the system's. */
function parsePrefixed(text: string): Message[] {
  const body = text.replace(/^<[^>\n]+>/, "");
  const starts = [...body.matchAll(/(?:^|\n|>)(User|Assistant):/g)];
  if (starts.length === 0) return [];
  const messages = starts.map((start, index) => {
    const next = starts[index + 1];
    // A ">" in front of a role closes the end-of-sequence token of the turn before.
    const end = next === undefined ? body.length : next.index + (next[0][0] === ">" ? 1 : 0);
    const content = body.slice(start.index + start[0].length, end).replace(/<[^>\n]+>\s*$/, "");
    return toMessage(start[1]!.toLowerCase(), content, next !== undefined || content.trim() !== "");
  });
  const system = body.slice(0, starts[0]!.index).trim();
  return system === "" ? messages : [toMessage("system", system, true), ...messages];
}

function toMessage(role: string, rawContent: string, isComplete: boolean): Message {
  const content = rawContent.trim();
  return {
    role: role.trim(),
    content,
    isComplete,
    toolCalls: toolCallsIn(content),
    toolResponses: toolResponsesIn(content),
  };
}
