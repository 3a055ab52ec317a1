import { ProtocolError, ValidationError } from "../errors.ts";

/** Deepest nesting that is read: what walks over a value must not overflow the stack. */
const MAX_DEPTH = 256;
/** Lists and objects that any text may have, and names; more are a matter of its length. */
const FREE_VALUES = 100_000;
/** Characters that a list or an object takes at least where there are many, as in log-probabilities. */
const VALUE_CHARACTERS = 12;
/** The same for a name and its value, as in vocabularies. */
const NAME_CHARACTERS = 14;

const QUOTE = 34, BACKSLASH = 92, OPEN_LIST = 91, CLOSE_LIST = 93, OPEN_MAP = 123, CLOSE_MAP = 125;
const COLON = 58, COMMA = 44;

/** Whether a JSON value is an object, not a list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a JSON value is a whole number of at least 0. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/**
 * Parses JSON of a file.
 *
 * @param where Where it stands, for the error: `rows.jsonl, line 3`.
 * @throws {ValidationError} When it is none, nested deeper than 256, or of too many values.
 */
export function parseJsonOfFile(text: string, where: string): unknown {
  const excess = jsonExcess(text);
  if (excess !== null) throw new ValidationError(`${where} ${excess}`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ValidationError(`${where} is not JSON`, { cause });
  }
}

/**
 * Parses a JSON object of a file.
 *
 * @param where Where it stands, for the error: `rows.jsonl, line 3`.
 * @throws {ValidationError} When it is none, nested deeper than 256, or of too many values.
 */
export function parseRecord(text: string, where: string): Record<string, unknown> {
  const value = parseJsonOfFile(text, where);
  if (isRecord(value)) return value;
  throw new ValidationError(`${where} is no JSON object`);
}

/**
 * Parses JSON of a peer. A text may be small and its value large: a list in a list takes one byte
 * and a hundred times the memory, so lists are counted before anything is built.
 *
 * @param what Who should have sent it, for the error: `GET /server_info at http://…`.
 * @throws {ProtocolError} When it is no JSON, nested deeper than 256, or of too many values.
 */
export function parseJson(text: string, what: string): unknown {
  const excess = jsonExcess(text);
  if (excess !== null) {
    throw new ProtocolError(`${what} should answer JSON, got one that ${excess}`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ProtocolError(
      `${what} should answer JSON, got: ${text.slice(0, 200)}`,
      { cause },
    );
  }
}

/**
 * What is wrong with the size of what a JSON text would make, as words to follow what it is; `null`
 * where nothing is. Linear; strings are passed over, and nothing is built.
 */
export function jsonExcess(text: string, maxDepth = MAX_DEPTH): string | null {
  // Most texts hold fewer brackets than would be too many.
  if (text.length <= maxDepth) return null;
  const most: JsonCounts = {
    depth: maxDepth,
    objects: Math.floor(FREE_VALUES + text.length / VALUE_CHARACTERS),
    names: Math.floor(FREE_VALUES + text.length / NAME_CHARACTERS),
    // As many as there are characters: no limit.
    items: text.length,
    texts: text.length,
  };
  switch (scanJson(text, most, jsonBegin())) {
    case "depth":
      return `is nested deeper than ${maxDepth}`;
    case "objects":
      return `holds more than ${most.objects} lists and objects, too many for its length`;
    case "names":
      return `holds more than ${most.names} names, too many for its length`;
  }
  return null;
}

/** What is counted of a JSON text before anything is built. */
export interface JsonCounts {
  /** Lists and objects that are open. */
  readonly depth: number;
  /** Lists and objects. */
  readonly objects: number;
  /** Names of fields: colons. */
  readonly names: number;
  /** Items: commas. */
  readonly items: number;
  /** Strings, names of fields too. */
  readonly texts: number;
}

/** How far a JSON text was scanned, and what it held until there. */
export type JsonScan = { -readonly [Name in keyof JsonCounts]: number } & { at: number };

/** The begin of a scan. */
export function jsonBegin(): JsonScan {
  return { at: 0, depth: 0, objects: 0, names: 0, items: 0, texts: 0 };
}

/**
 * Goes on with the scan of a JSON text until `end`, or behind the string that stands there.
 *
 * @param most What it may hold.
 * @returns What it holds more of, and the scan is over; `null` for nothing.
 */
export function scanJson(
  text: string,
  most: JsonCounts,
  scan: JsonScan,
  end = text.length,
): keyof JsonCounts | null {
  // In variables: this runs for each character of each answer.
  const { depth: maxDepth, objects: maxObjects, names: maxNames } = most;
  const { items: maxItems, texts: maxTexts } = most;
  let { at: i, depth, objects, names, items, texts } = scan;
  // Where they cannot be too many, commas are not looked for: a branch at each of them takes time.
  const comma = maxItems < text.length ? COMMA : -1;
  for (; i < end; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) {
      if (++texts > maxTexts) return "texts";
      i = endOfString(text, i);
    } else if (code < COLON) {
      if (code === comma && ++items > maxItems) return "items";
    } else if (code === COLON) {
      if (++names > maxNames) return "names";
    } else if (code === OPEN_LIST || code === OPEN_MAP) {
      if (++depth > maxDepth) return "depth";
      if (++objects > maxObjects) return "objects";
    } else if (code === CLOSE_LIST || code === CLOSE_MAP) depth--;
  }
  Object.assign(scan, { at: i, depth, objects, names, items, texts });
  return null;
}

/** Where the string ends that begins at `start`: its last quote, or the end of the text. */
export function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1);
  while (end >= 0) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return end;
    end = text.indexOf('"', end + 1);
  }
  return text.length;
}
