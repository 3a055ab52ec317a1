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
const COLON = 58;

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
  const maxValues = FREE_VALUES + text.length / VALUE_CHARACTERS;
  const maxNames = FREE_VALUES + text.length / NAME_CHARACTERS;
  let depth = 0, values = 0, names = 0;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE:
        i = endOfString(text, i);
        break;
      case OPEN_LIST:
      case OPEN_MAP:
        if (++depth > maxDepth) return `is nested deeper than ${maxDepth}`;
        if (++values > maxValues) {
          return `holds more than ${
            Math.floor(maxValues)
          } lists and objects, too many for its length`;
        }
        break;
      case CLOSE_LIST:
      case CLOSE_MAP:
        depth--;
        break;
      case COLON:
        if (++names > maxNames) {
          return `holds more than ${Math.floor(maxNames)} names, too many for its length`;
        }
        break;
    }
  }
  return null;
}

/** Where the string ends that begins at `start`: its last quote, or the end of the text. */
export function endOfString(text: string, start: number): number {
  for (let i = start + 1;;) {
    const end = text.indexOf('"', i);
    if (end < 0) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return end;
    i = end + 1;
  }
}
