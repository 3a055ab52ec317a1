import type { SamplingInput } from "../../client/types.ts";
import { isRecord } from "../../internal/json.ts";
import { onlyGiven } from "../../internal/option_names.ts";
import type { Asked, ToolChoice } from "../asked.ts";
import { invalid } from "../fault.ts";
import { Fields } from "./fields.ts";

/** Fields of SGLang's own that every OpenAI-like API takes. */
export const SGLANG_FIELDS = [
  "top_k",
  "min_p",
  "repetition_penalty",
  "min_tokens",
  "stop_token_ids",
  "stop_regex",
  "ignore_eos",
  "skip_special_tokens",
  "regex",
  "ebnf",
] as const;

/** Fields by which the APIs of OpenAI say how to sample. */
export const SAMPLING_FIELDS = [
  "temperature",
  "top_p",
  "frequency_penalty",
  "presence_penalty",
  "logit_bias",
  "stop",
  "seed",
  ...SGLANG_FIELDS,
] as const;

/** How to sample. Values are checked when the request is planned. */
export function samplingOf(
  body: Readonly<Record<string, unknown>>,
  maxTokens: number | undefined,
): SamplingInput {
  const fields = new Fields(body);
  const seed = fields.raw("seed");
  if (seed !== undefined && !Number.isSafeInteger(seed)) fields.wrong("seed", "a whole number");
  const given: Record<string, unknown> = {
    maxNewTokens: maxTokens,
    samplingSeed: seed,
    minNewTokens: fields.integer("min_tokens", 0),
    stop: fields.texts("stop"),
  };
  for (const name of SAMPLING_FIELDS) {
    if (name === "seed" || name === "min_tokens" || name === "stop") continue;
    given[name] = fields.raw(name);
  }
  return onlyGiven(given) as SamplingInput;
}

/** Fields that are grammars themselves. */
const GRAMMAR_FIELDS = ["regex", "ebnf"] as const;

/**
 * The field of a request that gives its answer a form by a grammar: one that a format was read of, a
 * grammar itself, or a choice of tools that leaves no choice.
 *
 * The form that a format gives goes together with calls: an answer is one of the two.
 *
 * @throws {GatewayRefusal} There are two others: a server takes one.
 */
export function grammarField(
  body: Readonly<Record<string, unknown>>,
  { format, formatField, tools, toolChoice }: {
    /** What {@linkcode grammarOf} read of the field. */
    readonly format: SamplingInput;
    readonly formatField: string;
    readonly tools: Asked["tools"];
    readonly toolChoice: ToolChoice;
  },
): string | null {
  const isRequired = toolChoice !== "auto" && toolChoice !== "none";
  const given = [
    // An answer that must call a tool says nothing that could have a form.
    ...(format.jsonSchema === undefined || isRequired ? [] : [formatField]),
    ...GRAMMAR_FIELDS.filter((name) => body[name] !== undefined && body[name] !== null),
    ...(isRequired ? ["tool_choice"] : []),
  ];
  const [first, second] = given;
  if (first === undefined) return null;
  if (second !== undefined) {
    throw invalid(
      `"${first}" and "${second}" each give the answer its form by a grammar, and a server takes one`,
      second,
    );
  }
  if (tools.length > 0 && toolChoice === "auto" && first !== formatField) {
    throw invalid(
      `"${first}" leaves an answer no room for calls of "tools": leave one of them out, or give a ` +
        '"tool_choice" of "none"',
      first,
    );
  }
  return first;
}

/** `response_format` as a grammar of the server. */
export function grammarOf(format: unknown, name: string): SamplingInput {
  if (format === undefined) return {};
  if (!isRecord(format)) throw invalid(`"${name}" must be an object`, name);
  switch (format.type) {
    case "text":
      return {};
    case "json_object":
      return { jsonSchema: { type: "object" } };
    case "json_schema": {
      // Chat wraps the schema, `/v1/responses` does not.
      const holder = isRecord(format.json_schema) ? format.json_schema : format;
      if (isRecord(holder.schema)) return { jsonSchema: holder.schema };
      throw invalid(`"${name}" must have a schema`, `${name}.json_schema.schema`);
    }
    default:
      throw invalid(
        `"${name}.type" must be one of text, json_object, json_schema`,
        `${name}.type`,
      );
  }
}
