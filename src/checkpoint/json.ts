import { CheckpointError } from "../errors.ts";

/** Whether a JSON value is an object, not a list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Reads a JSON object in which no name may stand twice (`JSON.parse` would keep the last one
 * without a word). Throws a `CheckpointError`.
 */
export function parseStrictJson(bytes: Uint8Array, what: string): Record<string, unknown> {
  const text = decode(bytes, what);
  const value = parse(text, what);
  if (!isRecord(value)) throw new CheckpointError(`${what} is no JSON object`);
  refuseDuplicates(text, what);
  return value;
}

function decode(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new CheckpointError(`${what} is not UTF-8`, { cause: error });
  }
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CheckpointError(`${what} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}

/** A string (with what follows, when that is a colon) or a bracket. Everything else is skipped. */
const token = /("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}]/g;

/** `text` is known to be JSON. */
function refuseDuplicates(text: string, what: string): void {
  const open: Array<Set<string>> = [];
  for (const [match, quoted, colon] of text.matchAll(token)) {
    if (match === "{") open.push(new Set());
    else if (match === "}") open.pop();
    else if (colon !== undefined) addName(open.at(-1)!, quoted!, what);
  }
}

function addName(names: Set<string>, quoted: string, what: string): void {
  const name = JSON.parse(quoted) as string;
  if (names.has(name)) throw new CheckpointError(`${what} names "${name}" twice`);
  names.add(name);
}
