import { CheckpointError } from "../errors.ts";
import { endOfString, isRecord, isTooDeep } from "../internal/json.ts";

/**
 * Reads a JSON object in which no name may stand twice (`JSON.parse` would keep the last one
 * without a word).
 *
 * @throws {CheckpointError} When it is no JSON object, or too deep.
 */
export function parseStrictJson(bytes: Uint8Array, what: string): Record<string, unknown> {
  const text = decode(bytes, what);
  if (isTooDeep(text)) throw new CheckpointError(`${what} is nested too deep for what it is`);
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

const QUOTE = 34, COLON = 58, OPEN = 123, CLOSE = 125;

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
      if (!open.at(-1)!.add(name)) throw new CheckpointError(`${what} names "${name}" twice`);
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

function afterSpace(text: string, start: number): number {
  let i = start;
  while (i < text.length && text.charCodeAt(i) <= 32) i++;
  return i;
}
