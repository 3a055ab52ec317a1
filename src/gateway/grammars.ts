/** Answers that a grammar gives their form. */
import { isRecord, jsonExcess } from "../internal/json.ts";
import { type AnswerReader, readAnswer } from "../policy/answers/read_answer.ts";
import type { OfferedTool } from "./asked.ts";

type Schema = Readonly<Record<string, unknown>>;

/**
 * What an answer that must call a tool has to look like, as a JSON schema: a list of calls, as SGLang's
 * own `tool_choice` has it. What a tool's schema refers to within itself goes with it.
 */
export function requiredCalls(tools: readonly OfferedTool[], name: string | null): Schema {
  const allowed = tools.filter((tool) => name === null || tool.function.name === name);
  const defs: Record<string, unknown> = {};
  const anyOf = allowed.map(({ function: { name, parameters } }, index) => ({
    type: "object",
    properties: {
      name: { type: "string", enum: [name] },
      parameters: within(parameters ?? { type: "object" }, `tool${index}`, defs),
    },
    required: ["name", "parameters"],
  }));
  return {
    type: "array",
    minItems: 1,
    items: { anyOf },
    ...(Object.keys(defs).length === 0 ? {} : { $defs: defs }),
  };
}

/**
 * What an answer has to look like that may call tools, and has a form where it calls none: a list of
 * calls, or what the schema of the form says.
 */
export function callsOrFormat(tools: readonly OfferedTool[], format: Schema): Schema {
  const { $defs = {}, ...calls } = requiredCalls(tools, null);
  const defs = { ...$defs as Record<string, unknown> };
  const anyOf = [calls, within(format, "format", defs)];
  return { anyOf, ...(Object.keys(defs).length === 0 ? {} : { $defs: defs }) };
}

/** A schema at a place in another: its references to itself lead to where it lies now. */
function within(schema: Schema, name: string, defs: Record<string, unknown>): unknown {
  let refers = false;
  const moved = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(moved);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, one]) => {
        if (key !== "$ref" || typeof one !== "string" || !/^#(\/|$)/.test(one)) {
          return [key, moved(one)];
        }
        refers = true;
        return [key, `#/$defs/${name}${one.slice(1)}`];
      }),
    );
  };
  const inside = moved(schema);
  if (!refers) return schema;
  defs[name] = inside;
  return { $ref: `#/$defs/${name}` };
}

/** Reads answers that {@linkcode requiredCalls} gave their form. */
export const readRequiredCalls: AnswerReader = (text, options) => {
  const list = jsonOf(text);
  if (!Array.isArray(list)) return readAnswer(text, options);
  const calls = list.flatMap((one) => {
    const { name, parameters } = (one ?? {}) as { name?: unknown; parameters?: unknown };
    return typeof name === "string" ? [{ name, arguments: parameters ?? {} }] : [];
  });
  return { reasoning: null, content: "", calls, faults: [] };
};

/**
 * Reads an answer as what it says: a grammar held from its first token on, so that nothing in it is a
 * thought or a call, even where the prompt had opened thoughts.
 */
export const readWhole: AnswerReader = (text) => ({
  reasoning: null,
  content: text,
  calls: [],
  faults: [],
});

/** Reads answers that {@linkcode callsOrFormat} gave their form: calls of the tools on offer, or the whole. */
export function callsOrWhole(tools: readonly OfferedTool[]): AnswerReader {
  const names = new Set(tools.map((tool) => tool.function.name));
  const isCall = (one: unknown) =>
    isRecord(one) && typeof one.name === "string" && names.has(one.name) &&
    isRecord(one.parameters) && Object.keys(one).length === 2;
  return (text, options) => {
    const list = jsonOf(text);
    return Array.isArray(list) && list.length > 0 && list.every(isCall)
      ? readRequiredCalls(text, options)
      : readWhole(text, options);
  };
}

/** JSON of an answer, `undefined` where it is none, or nested too deep to be written again. */
function jsonOf(text: string): unknown {
  if (jsonExcess(text) !== null) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
