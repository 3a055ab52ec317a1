/** Numbers of JSON that JavaScript cannot hold, or cannot tell apart: `1.0` and 1, whole ones beyond 2^53. */
import { jsonExcess } from "../internal/json.ts";
import { parseJson, PythonFloat } from "./templates/jinja/mod.ts";

const exact = new WeakMap<object, { readonly value: unknown; readonly json: string }>();

/**
 * A value of JSON, or `null` when the text is none. A whole number beyond 2^53 is a text of its digits;
 * templates still write such numbers, and `1.0`, as they were written: see {@linkcode exactOf}.
 */
export function tryJson(text: string): { value: unknown } | null {
  const read = tryExact(text);
  return read === null ? null : { value: plainOf(read.value) };
}

/** A value of JSON as Python would have it, or `null` when the text is none. */
export function tryExact(text: string): { value: unknown } | null {
  if (jsonExcess(text) !== null) return null;
  try {
    return { value: parseJson(text) };
  } catch {
    return null;
  }
}

/** What JavaScript holds of a value that {@linkcode tryExact} read; it stays known what it was. */
export function plainOf(value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof PythonFloat) return value.value;
  const plain = Array.isArray(value)
    ? value.map(plainOf)
    : Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, plainOf(entry)]));
  const given = Object.values(value);
  // What is inexact within an entry is known of the entry.
  const isInexact = Object.values(plain).some((entry, i) =>
    typeof entry === "object" && entry !== null ? exact.has(entry) : entry !== given[i]
  );
  if (isInexact) exact.set(plain, { value, json: JSON.stringify(plain) });
  return plain;
}

/** The value as it was written; the value itself where that is not known, or it was changed since. */
export function exactOf(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const known = exact.get(value);
  return known !== undefined && JSON.stringify(value) === known.json ? known.value : value;
}
