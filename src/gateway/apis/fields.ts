import { isRecord } from "../../internal/json.ts";
import { nearestName } from "../../internal/suggest.ts";
import { invalid } from "../fault.ts";
import type { OfferedTool } from "../asked.ts";

/** Which fields an API has, and what becomes of each. */
export interface FieldNames {
  /** Read here. */
  readonly used: readonly string[];
  /** Taken, and without effect: told in the header `x-sglang-rl-ignored`. */
  readonly ignored: readonly string[];
  /** Refused, with what to do instead. */
  readonly refused?: Readonly<Record<string, string>> | undefined;
}

/**
 * The fields of a body, or of the object at a path in it, that have no effect.
 *
 * @throws {GatewayRefusal} A field is not known here, or cannot be honoured.
 */
export function ignoredFields(
  body: Readonly<Record<string, unknown>>,
  { used, ignored, refused = {} }: FieldNames,
  path = "",
): string[] {
  const without: string[] = [];
  for (const [name, value] of Object.entries(body)) {
    if (value === null || value === undefined || used.includes(name)) continue;
    const place = `${path}${name.slice(0, 100)}`;
    if (ignored.includes(name)) {
      without.push(place);
      continue;
    }
    if (Object.hasOwn(refused, name)) throw invalid(`"${place}": ${refused[name]}`, place);
    // What is that long is no slip of the pen.
    const near = name.length > 100 ? undefined : nearestName(name, [...used, ...ignored]);
    throw invalid(
      `Unknown field "${place}"` + (near === undefined ? "" : `; did you mean "${near}"?`),
      place,
    );
  }
  return without;
}

/**
 * The same for a list of tools, each path once: there may be a thousand of them.
 *
 * @throws {GatewayRefusal} A field is not known here.
 */
export function ignoredOfTools(
  tools: readonly Readonly<Record<string, unknown>>[] | undefined,
  names: FieldNames,
  path: string,
): string[] {
  const all = (tools ?? []).flatMap((tool) => {
    // A tool that need not be followed strictly asks for nothing.
    const { strict, ...rest } = tool;
    return ignoredFields(strict === true ? tool : rest, names, path);
  });
  return [...new Set(all)];
}

/** What `stream_options` has in the APIs of chats and of texts. */
export const STREAM_FIELDS: FieldNames = {
  used: ["include_usage"],
  ignored: ["include_obfuscation", "continuous_usage_stats"],
};

/** Reads fields of a body, each with the error that names it. */
export class Fields {
  readonly #body: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(body: Readonly<Record<string, unknown>>, path = "") {
    this.#body = body;
    this.#path = path;
  }

  /** A value of whatever kind; `undefined` where it is `null` or not given. */
  raw(name: string): unknown {
    return this.#body[name] ?? undefined;
  }

  /** A text. */
  text(name: string): string | undefined {
    return this.#of(name, "a string", (value) => typeof value === "string");
  }

  /** A text that must be there. */
  needText(name: string): string {
    return this.text(name) ?? this.#missing(name, "a string");
  }

  /** True or false. */
  flag(name: string): boolean | undefined {
    return this.#of(name, "true or false", (value) => typeof value === "boolean");
  }

  /** A finite number. */
  number(name: string): number | undefined {
    return this.#of(name, "a number", (value) => Number.isFinite(value));
  }

  /** A whole number of at least `least`. */
  integer(name: string, least: number): number | undefined {
    return this.#of(
      name,
      `a whole number of at least ${least}`,
      (value) => Number.isSafeInteger(value) && (value as number) >= least,
    );
  }

  /** An object. */
  object(name: string): Readonly<Record<string, unknown>> | undefined {
    return this.#of(name, "an object", isRecord);
  }

  /** An object that must be there. */
  needObject(name: string): Readonly<Record<string, unknown>> {
    return this.object(name) ?? this.#missing(name, "an object");
  }

  /** A list of objects. */
  objects(name: string): readonly Readonly<Record<string, unknown>>[] | undefined {
    return this.#of(
      name,
      "a list of objects",
      (value) => Array.isArray(value) && value.every(isRecord),
    );
  }

  /** A text, or a list of texts. */
  texts(name: string): string | readonly string[] | undefined {
    return this.#of(
      name,
      "a string or a list of strings",
      (value) =>
        typeof value === "string" ||
        (Array.isArray(value) && value.every((one) => typeof one === "string")),
    );
  }

  /** One of several words. */
  word<Word extends string>(name: string, words: readonly Word[]): Word | undefined {
    return this.#of(name, `one of ${words.join(", ")}`, (value) => words.includes(value as Word));
  }

  /** What is wrong with a field. */
  wrong(name: string, expected: string): never {
    const value = this.#body[name];
    const shown = shownValue(value);
    throw invalid(`"${this.#at(name)}" must be ${expected}, got ${shown}`, this.#at(name));
  }

  #of<T>(name: string, expected: string, isOne: (value: unknown) => boolean): T | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (!isOne(value)) this.wrong(name, expected);
    return value as T;
  }

  #missing(name: string, expected: string): never {
    throw invalid(`"${this.#at(name)}" is missing: it must be ${expected}`, this.#at(name));
  }

  #at(name: string): string {
    return `${this.#path}${name}`;
  }
}

/** A value in an error: a large one by what it is. */
function shownValue(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 80)).slice(0, 80);
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return isRecord(value) ? "an object" : String(value);
}

/** A function that an agent offers as a tool, in the shape that templates take. */
export function offeredTool(
  { name, description, parameters }: {
    readonly name: string;
    readonly description?: unknown;
    readonly parameters?: unknown;
  },
  path: string,
): OfferedTool {
  if (parameters !== undefined && parameters !== null && !isRecord(parameters)) {
    throw invalid(`"${path}.parameters" must be a JSON schema`, `${path}.parameters`);
  }
  return {
    type: "function",
    function: {
      name,
      ...(typeof description === "string" ? { description } : {}),
      ...(isRecord(parameters) ? { parameters } : {}),
    },
  };
}

/** Refuses two tools of one name. */
export function checkedTools(tools: readonly OfferedTool[]): readonly OfferedTool[] {
  const names = new Set(tools.map((tool) => tool.function.name));
  if (names.size < tools.length) throw invalid("Two tools have one name", "tools");
  return tools;
}
