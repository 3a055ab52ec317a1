import { CheckpointError } from "../errors.ts";
import { inBrief } from "../internal/brief.ts";
import { endOfString, isRecord, jsonExcess } from "../internal/json.ts";

/**
 * Reads a JSON object in which no name may stand twice (`JSON.parse` would keep the last one
 * without a word).
 *
 * @throws {CheckpointError} When it is no JSON object, too deep, or of too many values.
 */
export function parseStrictJson(bytes: Uint8Array, what: string): Record<string, unknown> {
  const text = decodeJson(bytes, what);
  refuseExcess(text, what);
  const value = parse(text, what);
  if (!isRecord(value)) throw new CheckpointError(`${what} is no JSON object`);
  refuseDuplicates(text, what);
  return value;
}

/** The text of a JSON file. */
export function decodeJson(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new CheckpointError(`${what} is not UTF-8`, { cause: error });
  }
}

/**
 * The names of a JSON object, each with the text of its value. So an object of hundreds of thousands
 * of entries is never there as a whole: it would take ten times the memory of its text.
 *
 * A value's text is looked at only as far as its end; {@linkcode parseValue} reads it.
 *
 * @throws {CheckpointError} When it is no JSON object.
 */
export function* entriesOf(text: string, what: string): Generator<[name: string, value: string]> {
  const { length } = text;
  let at = afterSpace(text, 0);
  const wrong = (expected: string) =>
    new CheckpointError(
      at >= length
        ? `${what} is not JSON: it ends within an object, at character ${length}`
        : `${what} is not JSON: ${expected} is expected at character ${at}`,
    );
  if (text.charCodeAt(at) !== OPEN) {
    parse(text.length > SHOWN_CHARACTERS ? text.slice(0, SHOWN_CHARACTERS) : text, what);
    throw new CheckpointError(`${what} is no JSON object`);
  }
  at = afterSpace(text, at + 1);
  if (text.charCodeAt(at) === CLOSE) at++;
  else {
    for (;;) {
      if (text.charCodeAt(at) !== QUOTE) throw wrong("a name");
      const nameEnd = endOfString(text, at) + 1;
      const quoted = text.slice(at, nameEnd);
      at = afterSpace(text, nameEnd);
      if (text.charCodeAt(at) !== COLON) throw wrong('":"');
      const start = afterSpace(text, at + 1);
      const end = endOfValue(text, start);
      at = start;
      if (end === start) throw wrong("a value");
      // A part of a text would keep all of it in memory; what is parsed is new.
      yield [parse(quoted, what) as string, text.slice(start, end)];
      at = afterSpace(text, end);
      const next = text.charCodeAt(at);
      if (next !== COMMA && next !== CLOSE) throw wrong('"," or "}"');
      at = afterSpace(text, at + 1);
      if (next === CLOSE) break;
    }
  }
  at = afterSpace(text, at);
  if (at < length) throw wrong("the end");
}

/** Reads a value of {@linkcode entriesOf}; in its objects too no name may stand twice. */
export function parseValue(text: string, what: string): unknown {
  refuseExcess(text, what);
  const value = parse(text, what);
  if (typeof value === "object" && value !== null) refuseDuplicates(text, what);
  return value;
}

/** What is shown of a text that is no object, at most. */
const SHOWN_CHARACTERS = 1000;

/** A name stands twice in an object, so nobody can know which is meant. */
export function namedTwice(what: string, name: string): CheckpointError {
  return new CheckpointError(`${what} names ${inBrief(name)} twice`);
}

function refuseExcess(text: string, what: string): void {
  const excess = jsonExcess(text);
  if (excess !== null) throw new CheckpointError(`${what} ${excess}`);
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CheckpointError(`${what} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}

const QUOTE = 34, COMMA = 44, COLON = 58, OPEN = 123, CLOSE = 125;
const OPEN_LIST = 91, CLOSE_LIST = 93, SPACE = 32;

/** `text` is known to be JSON. Every character is looked at once, and a string as a whole. */
function refuseDuplicates(text: string, what: string): void {
  const open: Names[] = [];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === OPEN) open.push(new Names());
    else if (code === CLOSE) open.pop();
    if (code !== QUOTE) continue;
    const end = endOfString(text, i);
    if (text.charCodeAt(afterSpace(text, end + 1)) === COLON) {
      const name = unquoted(text.slice(i, end + 1));
      if (!open.at(-1)!.add(name)) throw namedTwice(what, name);
    }
    i = end;
  }
}

/** Names that a list holds in less memory, and finds as fast, as a set. */
const FEW_NAMES = 8;

/** The names of one object: mostly a handful, of one object hundreds of thousands. */
class Names {
  readonly #few: string[] = [];
  #many: Set<string> | undefined;

  /** Whether the name is new. */
  add(name: string): boolean {
    if (this.#many === undefined && this.#few.length < FEW_NAMES) {
      if (this.#few.includes(name)) return false;
      this.#few.push(name);
      return true;
    }
    this.#many ??= new Set(this.#few);
    if (this.#many.has(name)) return false;
    this.#many.add(name);
    return true;
  }
}

function unquoted(text: string): string {
  return text.includes("\\") ? JSON.parse(text) as string : text.slice(1, -1);
}

/** Where a value ends that begins at `start`: after its last bracket, its quote, or before what follows. */
function endOfValue(text: string, start: number): number {
  let depth = 0;
  for (let i = start; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) {
      i = endOfString(text, i);
      if (depth === 0) return Math.min(i + 1, text.length);
    } else if (code === OPEN || code === OPEN_LIST) depth++;
    else if (code === CLOSE || code === CLOSE_LIST) {
      if (depth === 0) return i;
      if (--depth === 0) return i + 1;
    } else if (depth === 0 && (code === COMMA || code <= SPACE)) return i;
  }
  return text.length;
}

function afterSpace(text: string, start: number): number {
  let i = start;
  while (isSpace(text.charCodeAt(i))) i++;
  return i;
}

function isSpace(code: number): boolean {
  return code === SPACE || code === 10 || code === 13 || code === 9;
}
