import { isCount, isRecord } from "../internal/json.ts";
import { ValidationError } from "../errors.ts";
import type { RoutedExperts } from "../client/routed_experts.ts";
import type { VersionSpan } from "../client/types.ts";
import type { Message } from "../policy/message.ts";
import { fromBase64 } from "../internal/text_of_bytes.ts";

const LARGEST_INT = 2 ** 31 - 1;

/** Takes the fields of one JSON object apart; an error names the place and the field. */
export class Fields {
  readonly #record: Record<string, unknown>;
  readonly #where: string;

  /** `where` comes first in every error, for example `rows.jsonl, line 3`. */
  constructor(record: Record<string, unknown>, where: string) {
    this.#record = record;
    this.#where = where;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#record, name);
  }

  /** A whole number from 0. */
  count(name: string, otherwise?: number): number {
    const value = this.#value(name, otherwise);
    if (isCount(value)) return value;
    throw this.wrong(name, "a whole number of at least 0");
  }

  /** The same, or `null`. */
  countOrNull(name: string): number | null {
    return this.#value(name, null) === null ? null : this.count(name);
  }

  flag(name: string): boolean {
    const value = this.#value(name);
    if (typeof value === "boolean") return value;
    throw this.wrong(name, "true or false");
  }

  real(name: string): number {
    const value = this.#value(name);
    if (typeof value === "number") return value;
    if (value === "NaN") return NaN;
    throw this.wrong(name, "a number");
  }

  textOrNull(name: string): string | null {
    const value = this.#value(name, null);
    if (value === null || typeof value === "string") return value;
    throw this.wrong(name, "a text or null");
  }

  oneOf<Name extends string>(name: string, names: readonly Name[]): Name {
    const value = this.#value(name);
    const found = names.find((known) => known === value);
    if (found !== undefined) return found;
    throw this.wrong(name, `one of ${names.map((known) => `"${known}"`).join(", ")}`);
  }

  object(name: string): Record<string, unknown> {
    const value = this.#value(name);
    if (isRecord(value)) return value;
    throw this.wrong(name, "an object");
  }

  ids(name: string): Int32Array {
    const list = this.#list(name);
    const ids = new Int32Array(list.length);
    for (let i = 0; i < list.length; i++) {
      const id = list[i];
      if (!Number.isInteger(id) || Math.abs(id as number) > LARGEST_INT) {
        throw this.wrong(`${name}[${i}]`, "a whole number of 32 bits");
      }
      ids[i] = id as number;
    }
    return ids;
  }

  idsOrNull(name: string): Int32Array | null {
    return this.#value(name, null) === null ? null : this.ids(name);
  }

  /** One number for each of `length` ids. A probability of 0 comes as `null`, which JSON has. */
  logProbsOrNull(name: string, length: number): Float32Array | null {
    if (this.#value(name, null) === null) return null;
    const list = this.#list(name, length);
    const values = new Float32Array(length);
    for (let i = 0; i < length; i++) {
      const value = list[i];
      if (value !== null && typeof value !== "number" && value !== "NaN") {
        throw this.wrong(`${name}[${i}]`, "a number or null");
      }
      values[i] = value === null ? -Infinity : Number(value);
    }
    return values;
  }

  /** One version for each of `length` ids. */
  versionsOrNull(name: string, length: number): readonly (number | string | null)[] | null {
    if (this.#value(name, null) === null) return null;
    const list = this.#list(name, length);
    const at = list.findIndex((value) =>
      value !== null && typeof value !== "number" && typeof value !== "string"
    );
    if (at < 0) return list as (number | string | null)[];
    throw this.wrong(`${name}[${at}]`, "a number, a text or null");
  }

  spansOrNull(name: string): readonly VersionSpan[] | null {
    const value = this.#value(name, null);
    if (value === null) return null;
    if (!isSpans(value)) throw this.wrong(name, "a list of {version, start, end} or null");
    return value;
  }

  /** Experts as base64 of int32, which rows without them leave out. */
  routedExperts(name: string): { routedExperts?: RoutedExperts } {
    const value = this.#value(name, null);
    if (value === null) return {};
    if (isRecord(value) && typeof value.data === "string") {
      const { start, tokens, per_token: perToken, data: text } = value;
      const data = int32Of(text as string);
      const isWell = isCount(start) && isCount(tokens) && isCount(perToken);
      if (isWell && data?.length === tokens * perToken) {
        return { routedExperts: { start, tokens, perToken, data } };
      }
    }
    throw this.wrong(name, "{start, tokens, per_token, data}, data base64 of int32");
  }

  message(name: string): Message {
    const value = this.#value(name);
    if (isMessage(value)) return value;
    throw this.wrong(name, "a message with a role");
  }

  messages(name: string): readonly Message[] {
    const list = this.#list(name);
    const at = list.findIndex((message) => !isMessage(message));
    if (at < 0) return list as Message[];
    throw this.wrong(`${name}[${at}]`, "a message with a role");
  }

  /** The error for a field that is not what it should be. */
  wrong(name: string, expected: string): ValidationError {
    return new ValidationError(`${this.#where}: ${name} should be ${expected}`);
  }

  #value(name: string, otherwise?: unknown): unknown {
    if (this.has(name)) return this.#record[name];
    if (otherwise !== undefined) return otherwise;
    throw new ValidationError(`${this.#where}: ${name} is missing`);
  }

  #list(name: string, length?: number): readonly unknown[] {
    const value = this.#value(name);
    if (!Array.isArray(value)) throw this.wrong(name, "a list");
    if (length === undefined || value.length === length) return value;
    throw this.wrong(name, `as long as response_ids, ${length}, and is ${value.length} long`);
  }
}

function int32Of(text: string): Int32Array | undefined {
  try {
    const { buffer, byteLength } = fromBase64(text);
    return byteLength % 4 === 0 ? new Int32Array(buffer, 0, byteLength / 4) : undefined;
  } catch {
    return undefined;
  }
}

/** Whether this is a list of spans. */
export function isSpans(value: unknown): value is readonly VersionSpan[] {
  return Array.isArray(value) &&
    value.every((span) =>
      isRecord(span) && typeof span.version === "string" && Number.isSafeInteger(span.start) &&
      Number.isSafeInteger(span.end)
    );
}

function isMessage(value: unknown): value is Message {
  if (!isRecord(value) || typeof value.role !== "string") return false;
  const { content } = value;
  if (content === null || content === undefined || typeof content === "string") return true;
  return Array.isArray(content) &&
    content.every((part) =>
      isRecord(part) && (part.text === undefined || typeof part.text === "string")
    );
}
