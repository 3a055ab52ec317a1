/** What the parameters of tools are, by the JSON schemas that were given to the model. */
import { isRecord } from "../../internal/json.ts";
import { tryExact } from "../exact_numbers.ts";
import { pythonValue } from "./python_calls.ts";

/** What a parameter is. */
export interface ParameterKind {
  /** Its type; `null` where nobody says. */
  readonly type: "string" | "integer" | "number" | "boolean" | "object" | "array" | null;
  /** Whether it may be null. */
  readonly isNullable: boolean;
}

/** Tells what a parameter of a tool is. */
export type ParameterKinds = (tool: string, parameter: string) => ParameterKind;

/** Of which nothing is known. */
export const unknownKind: ParameterKind = { type: null, isNullable: true };

/** Deeper schemas are not looked into: one may refer to itself. */
const MAX_DEPTH = 16;

/** A tool as it is described: `{ type: "function", function }`, or the function itself. */
export function describedTool(tool: unknown): { name?: unknown; parameters?: unknown } {
  const { function: described = tool } = isRecord(tool) ? tool : {};
  return isRecord(described) ? described : {};
}

/**
 * Kinds by the schemas of tools, as SGLang's parsers infer them: `type` or a list of types, `anyOf`,
 * `oneOf`, `allOf`, `enum`, `const`, `properties`, `items`, and `$ref` to the schema's own definitions.
 */
export function parameterKinds(tools: readonly unknown[] | undefined): ParameterKinds {
  const known = new Map<string, (parameter: string) => ParameterKind>();
  for (const tool of tools ?? []) {
    const { name, parameters } = describedTool(tool);
    if (typeof name !== "string") continue;
    const kinds = new Map<string, ParameterKind>();
    const reader = new SchemaReader(parameters);
    const properties = reader.properties(parameters, 0);
    known.set(name, (parameter) => {
      let kind = kinds.get(parameter);
      if (kind === undefined) {
        kind = reader.kind(properties.get(parameter), 0);
        kinds.set(parameter, kind);
      }
      return kind;
    });
  }
  return (tool, parameter) => known.get(tool)?.(parameter) ?? unknownKind;
}

const prefixes: readonly (readonly [NonNullable<ParameterKind["type"]>, RegExp])[] = [
  ["string", /^(?:str|text|varchar|char|enum)/],
  ["integer", /^(?:int|uint|long|short|unsigned)/],
  ["number", /^(?:num|float|double|decimal)/],
  ["boolean", /^(?:bool|binary)/],
  ["array", /^(?:arr|list|tuple)/],
  ["object", /^(?:obj|dict|map)/],
];

class SchemaReader {
  readonly #root: unknown;

  constructor(root: unknown) {
    this.#root = root;
  }

  /** The schemas of the parameters: of the schema itself, or of those that it is made of. */
  properties(given: unknown, depth: number): ReadonlyMap<string, unknown> {
    const schema = this.#resolved(given);
    if (!isRecord(schema) || depth > MAX_DEPTH) return new Map();
    if (isRecord(schema.properties)) return new Map(Object.entries(schema.properties));
    const merged = new Map<string, unknown>();
    for (const part of partsOf(schema)) {
      for (const [name, one] of this.properties(part, depth + 1)) {
        if (!merged.has(name)) merged.set(name, one);
      }
    }
    return merged;
  }

  kind(given: unknown, depth: number): ParameterKind {
    const schema = this.#resolved(given);
    if (!isRecord(schema) || depth > MAX_DEPTH) return unknownKind;
    const { type, nullable } = schema;
    const isNullable = nullable === true;
    if (typeof type === "string") {
      return { type: typeNamed(type), isNullable: isNullable || type === "null" };
    }
    if (Array.isArray(type)) {
      const first = type.find((one) => typeof one === "string" && one !== "null");
      return {
        type: first === undefined ? null : typeNamed(first),
        isNullable: isNullable || type.includes("null"),
      };
    }
    const options = [schema.anyOf, schema.oneOf].find(Array.isArray);
    if (options !== undefined) {
      const kinds = options.map((one) => this.kind(one, depth + 1));
      const types = kinds.flatMap((one) => one.type === null ? [] : [one.type]);
      return {
        // Texts are the safest of several.
        type: types.includes("string") ? "string" : types[0] ?? null,
        isNullable: isNullable || kinds.some((one) => one.isNullable),
      };
    }
    const values = Array.isArray(schema.enum)
      ? schema.enum
      : Object.hasOwn(schema, "const")
      ? [schema.const]
      : null;
    if (values !== null) {
      const types = new Set(values.map(typeOfValue));
      const isNull = types.delete(null);
      return {
        type: types.size === 1 ? [...types][0]! : "string",
        isNullable: isNullable || isNull,
      };
    }
    if (Array.isArray(schema.allOf)) {
      const kinds = schema.allOf.map((one) => this.kind(one, depth + 1));
      const found = kinds.find((one) => one.type !== null && one.type !== "string") ?? kinds[0];
      return { type: found?.type ?? "string", isNullable };
    }
    if (Object.hasOwn(schema, "properties")) return { type: "object", isNullable };
    if (Object.hasOwn(schema, "items")) return { type: "array", isNullable };
    return unknownKind;
  }

  /** What a reference within the schema refers to. */
  #resolved(given: unknown): unknown {
    let schema = given;
    for (let step = 0; step < MAX_DEPTH; step++) {
      if (!isRecord(schema) || typeof schema.$ref !== "string") return schema;
      if (!schema.$ref.startsWith("#/")) return undefined;
      let target = this.#root;
      for (const key of schema.$ref.slice(2).split("/")) {
        const name = key.replaceAll("~1", "/").replaceAll("~0", "~");
        target = isRecord(target) && Object.hasOwn(target, name) ? target[name] : undefined;
      }
      schema = target;
    }
    return undefined;
  }
}

function partsOf(schema: Readonly<Record<string, unknown>>): readonly unknown[] {
  return [schema.anyOf, schema.oneOf, schema.allOf].flatMap((list) =>
    Array.isArray(list) ? list : []
  );
}

function typeNamed(name: string): ParameterKind["type"] {
  const plain = name.trim().toLowerCase();
  return prefixes.find(([, pattern]) => pattern.test(plain))?.[0] ?? null;
}

function typeOfValue(value: unknown): ParameterKind["type"] {
  if (value === null) return null;
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  if (typeof value === "boolean") return "boolean";
  return typeof value === "object" ? "object" : "string";
}

/**
 * A value that is written without quotes, as its parameter wants it; the text itself where it is none.
 * It is as Python has it. Models write values as JSON or as Python does: `True`, `None`, `['a']`.
 */
export function looseValue(text: string, { type, isNullable }: ParameterKind): unknown {
  const plain = text.trim();
  const isNull = /^(?:null|none)$/i.test(plain);
  if (type === "string") return isNull && isNullable ? null : text;
  if (isNull) return null;
  if (type === "boolean" && /^(?:true|false)$/i.test(plain)) return plain.toLowerCase() === "true";
  if (type === "integer" || type === "number") return numberIn(plain) ?? text;
  const read = tryExact(text) ?? pythonValue(plain);
  return read === null ? text : read.value;
}

function numberIn(plain: string): unknown {
  const read = tryExact(plain) ?? pythonValue(plain);
  return read === null || typeof read.value === "string" ? undefined : read.value;
}
