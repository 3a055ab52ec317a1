/** Calls and answers of tools that a text has written out. */
import { createHash } from "node:crypto";
import { isRecord } from "../../internal/json.ts";
import type { AnswerFormat } from "../answers/model_marks.ts";
import { looseValue, unknownKind } from "../answers/parameter_kinds.ts";
import { readAnswer } from "../answers/read_answer.ts";
import { plainOf } from "../exact_numbers.ts";
import type { ToolCall } from "../message.ts";

/**
 * What tells later that these calls were read from this content: kept in the message, so that a copy
 * by JSON has it too, and of no use once one of the two is changed.
 */
export function markOfCalls(content: string, calls: readonly unknown[]): string {
  // Twice: a copy has lost that 1.0 is a float, and a database may sort the keys.
  const written = JSON.stringify(sorted(JSON.parse(JSON.stringify(calls))));
  return createHash("sha256").update(`${content}\0${written}`).digest("hex").slice(0, 32);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isRecord(value)) return value;
  const entries = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1);
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}

/**
 * Whether calls are those that a content has written out: by their names and arguments. A text in
 * place of a number or the like is the same: only who knows the tools can tell them apart. `format` is
 * how the model writes calls; the spelling of another family in the content is a word like others.
 */
export function isWrittenIn(
  content: string,
  calls: readonly Readonly<Record<string, unknown>>[],
  format: Partial<AnswerFormat> = {},
): boolean {
  const { calls: found } = readAnswer(content, format);
  if (found.length !== calls.length) return false;
  return calls.every(({ name, arguments: given }, index) => {
    const call = found[index]!;
    return name === call.name && areSame(given, call.arguments);
  });
}

function areSame(one: unknown, other: unknown): boolean {
  if (isRecord(one) && isRecord(other)) {
    const keys = Object.keys(one);
    return keys.length === Object.keys(other).length &&
      keys.every((key) => Object.hasOwn(other, key) && plain(one[key]) === plain(other[key]));
  }
  return plain(one) === plain(other);
}

/** A value as it is written without quotes. */
function plain(value: unknown): string {
  const read = typeof value === "string" ? plainOf(looseValue(value, unknownKind)) : value;
  return typeof read === "string" ? read : JSON.stringify(read) ?? "";
}

/** Calls written out in a content, or `null`. */
export function toolCallsIn(content: string): readonly ToolCall[] | null {
  const { calls } = readAnswer(content);
  return calls.length === 0 ? null : calls;
}

/** Responses written out in a tool's content, or `null`. */
export function toolResponsesIn(text: string): string[] | null {
  const open = "<tool_response>\n";
  const close = "\n</tool_response>";
  const blocks: string[] = [];
  let at = text.indexOf(open);
  while (at >= 0) {
    const end = text.indexOf(close, at + open.length);
    if (end < 0) break;
    blocks.push(text.slice(at + open.length, end));
    at = text.indexOf(open, end + close.length);
  }
  return blocks.length === 0 ? null : blocks;
}
