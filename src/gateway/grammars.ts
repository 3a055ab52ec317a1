/** Answers that a grammar gives their form. */
import { jsonExcess } from "../internal/json.ts";
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
  // What is nested too deep cannot be written again.
  if (jsonExcess(text) !== null) return readAnswer(text, options);
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    return readAnswer(text, options);
  }
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
