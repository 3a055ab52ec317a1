import { plainOf, tryJson } from "../exact_numbers.ts";
import { isRecord } from "../../internal/json.ts";
import type { ToolCall } from "../message.ts";

/** Something in an answer that looks like a call of a tool and is none. */
export interface ToolCallFault {
  /** What was written, at most 500 characters of it. */
  readonly text: string;
  /** What is wrong with it. */
  readonly reason: string;
}

/** An answer of a model, taken apart. */
export interface ReadAnswer {
  /** What the model thought, or `null`. Calls in it are not calls. */
  readonly reasoning: string | null;
  /** What it said beside its thoughts and its calls. */
  readonly content: string;
  /** The tools that it calls, in order. */
  readonly calls: readonly ToolCall[];
  /** What looks like a call and is none, in order. */
  readonly faults: readonly ToolCallFault[];
}

/** What a reader of calls found in one place. */
export type Found = { readonly call: ToolCall } | { readonly fault: ToolCallFault };

/** The calls and the faults of what was found, each in order. */
export function sortedOut(found: readonly Found[]): Pick<ReadAnswer, "calls" | "faults"> {
  return {
    calls: found.flatMap((one): ToolCall[] => "call" in one ? [one.call] : []),
    faults: found.flatMap((one) => "fault" in one ? [one.fault] : []),
  };
}

/** What one reading found: where it ends, and the calls up to there. */
export interface Reading {
  /** The first place behind what was read. */
  readonly end: number;
  /** Calls and faults, in order. */
  readonly found: readonly Found[];
  /** Marks that end an argument: where one stands outside of calls, nobody knows where one ended. */
  readonly closes?: readonly string[] | undefined;
}

/** How models mark their thoughts. */
export const thoughtMarks: readonly (readonly [open: string, close: string])[] = [
  // Any model may be asked to think so, whatever its template.
  ["<think>", "</think>"],
  ["[THINK]", "[/THINK]"],
  ["<seed:think>", "</seed:think>"],
  ["<|START_THINKING|>", "<|END_THINKING|>"],
  ["<|channel>thought", "<channel|>"],
];

/** Whether a prompt ends with opened thoughts, as templates that ask a model to think have it. */
export function opensThoughts(prompt: string): boolean {
  return /<think>\s*$/.test(prompt.slice(-32));
}

/** A fault. */
export function fault(text: string, reason: string): { readonly fault: ToolCallFault } {
  return { fault: { text: text.trim().slice(0, 500), reason } };
}

/** A call from an object of JSON; `parameters` will do for `arguments`, `tool_name` for `name`. */
export function callOf(value: unknown, text: string): Found {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return fault(text, "a call must be a JSON object with name and arguments");
  }
  const { parameters, tool_name: toolName, ...rest } = value as Record<string, unknown>;
  const { name = toolName } = rest;
  if (typeof name !== "string" || name === "") return fault(text, "the call has no name");
  let given = rest.arguments ?? parameters ?? {};
  if (typeof given === "string") {
    const read = tryJson(given);
    if (read === null) return fault(text, "the arguments are not JSON");
    given = read.value ?? {};
  }
  if (!isRecord(given)) return fault(text, "the arguments are not a JSON object");
  return { call: { ...rest, name, arguments: given } };
}

/** A call from a name and the JSON of its arguments. */
export function namedCall(name: string, json: string, text: string): Found {
  const given = json.trim();
  if (given === "") return callOf({ name, arguments: {} }, text);
  const read = tryJson(given);
  return read === null
    ? fault(text, "the arguments are not JSON")
    : callOf({ name, arguments: read.value }, text);
}

const endTokens = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|endoftext|>", "</s>"];
const moreEndTokens = [
  "<｜end▁of▁sentence｜>",
  "<end_of_turn>",
  "<|call|>",
  "<turn|>",
  "<|eom|>",
  "<|return|>",
  "<|end|>",
];

/** A text without white space and tokens of the model at its end. */
export function withoutEndTokens(text: string): string {
  let rest = text.trim();
  while (true) {
    const token = [...endTokens, ...moreEndTokens].find((end) => rest.endsWith(end));
    if (token === undefined) return rest;
    rest = rest.slice(0, -token.length).trimEnd();
  }
}

/** A call from a name and values as Python has them. */
export function taggedCall(name: string, given: Record<string, unknown>, text: string): Found {
  return callOf({ name, arguments: plainOf(given) }, text);
}
