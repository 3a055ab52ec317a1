/** Calls in Python's syntax, `[add(a=1, b="x"), list_all()]`, as Llama 4 and LFM2 write them. */
import { PythonFloat } from "../templates/jinja/mod.ts";
import { fault, type Found, taggedCall } from "./answer.ts";

/** Deeper values are no arguments. */
const MAX_DEPTH = 64;

/** What was read as calls. */
export interface PythonCalls {
  /** The calls; `undefined` where a text does not begin with a list of calls. */
  readonly found: Found[] | undefined;
  /** The place behind what was read. */
  readonly end: number;
}

/** The list of calls that a text begins with. */
export function pythonCalls(text: string): PythonCalls {
  const reader = new PythonReader(text);
  let found: Found[] | undefined;
  try {
    found = reader.calls();
  } catch (error) {
    if (!(error instanceof NoPython)) throw error;
  }
  return { found, end: reader.at };
}

/** Calls that a text begins with, without brackets around them: `add(a=1)`, one in a line. */
export function pythonLines(text: string): { readonly found: Found[]; readonly end: number } {
  const reader = new PythonReader(text);
  const found: Found[] = [];
  let end = 0;
  try {
    while (reader.at < text.length) {
      found.push(...reader.calls());
      end = reader.at;
    }
  } catch (error) {
    if (!(error instanceof NoPython)) throw error;
  }
  return { found, end };
}

/** The same where a text must be such calls and nothing else. */
export function onlyPythonCalls(text: string): Found[] {
  const { found, end } = pythonCalls(text);
  if (found === undefined) return [fault(text, "the calls are not in Python's syntax")];
  if (text.slice(end).trim() === "") return found;
  return [fault(text, "something stands behind the calls")];
}

/** A value of Python, such as `['a', True]`, that is the whole text; `null` where it is none. */
export function pythonValue(text: string): { value: unknown } | null {
  if (!/^(?:[\[({'"+\-.\d]|(?:True|False|None)$)/.test(text)) return null;
  const reader = new PythonReader(text);
  try {
    const value = reader.value();
    return reader.at === text.length ? { value } : null;
  } catch (error) {
    if (error instanceof NoPython) return null;
    throw error;
  }
}

class NoPython extends Error {}

const escapes: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", "\n": "", 0: "\0" };
const words: Readonly<Record<string, unknown>> = {
  True: true,
  False: false,
  None: null,
  true: true,
  false: false,
  null: null,
};

class PythonReader {
  at = 0;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  calls(): Found[] {
    if (!this.#takes("[")) return [this.#call()];
    return this.#items("]", () => this.#call());
  }

  value(): unknown {
    return this.#value(0);
  }

  #call(): Found {
    const name = this.#take(/\s*([A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)/y);
    const start = this.at;
    this.#expect("(");
    const given: Record<string, unknown> = {};
    this.#items(")", () => {
      const key = this.#take(/\s*([A-Za-z_]\w*)\s*=(?!=)/y);
      given[key] = this.#value(0);
    });
    return taggedCall(name, given, name + this.#text.slice(start, this.at));
  }

  #value(depth: number): unknown {
    if (depth > MAX_DEPTH) throw new NoPython();
    this.#take(/(\s*)/y);
    const sign = this.#text[this.at];
    if (sign === '"' || sign === "'") return this.#string(sign);
    if (this.#takes("[")) return this.#items("]", () => this.#value(depth + 1));
    if (this.#takes("(")) return this.#items(")", () => this.#value(depth + 1));
    if (this.#takes("{")) {
      return Object.fromEntries(this.#items("}", () => {
        const key = this.#value(depth + 1);
        this.#expect(":");
        return [String(key), this.#value(depth + 1)] as const;
      }));
    }
    const word = this.#take(/([\w.+-]+)/y);
    if (Object.hasOwn(words, word)) return words[word];
    return numberOf(word);
  }

  #string(quote: string): string {
    const isLong = this.#text.startsWith(quote.repeat(3), this.at);
    const close = isLong ? quote.repeat(3) : quote;
    this.at += close.length;
    const parts: string[] = [];
    const stop = isLong ? /\\|"""|'''/g : quote === '"' ? /[\\"]/g : /[\\']/g;
    while (true) {
      stop.lastIndex = this.at;
      const found = stop.exec(this.#text);
      if (found === null) {
        this.at = this.#text.length;
        throw new NoPython();
      }
      parts.push(this.#text.slice(this.at, found.index));
      this.at = found.index + found[0].length;
      if (found[0] === close) return parts.join("");
      parts.push(found[0] === "\\" ? this.#escape() : found[0]);
    }
  }

  #escape(): string {
    const code = /x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(0010[0-9a-fA-F]{4}|000[0-9a-fA-F]{5})/y;
    code.lastIndex = this.at;
    const found = code.exec(this.#text);
    if (found !== null) {
      this.at += found[0].length;
      return String.fromCodePoint(parseInt(found[1] ?? found[2] ?? found[3]!, 16));
    }
    const sign = this.#text[this.at] ?? "";
    this.at++;
    // Python keeps the backslash before a sign that is no escape.
    return escapes[sign] ?? ("\\\"'".includes(sign) ? sign : `\\${sign}`);
  }

  #items<Item>(close: string, item: () => Item): Item[] {
    const list: Item[] = [];
    while (!this.#takes(close)) {
      list.push(item());
      if (this.#takes(close)) return list;
      this.#expect(",");
    }
    return list;
  }

  #take(sticky: RegExp): string {
    sticky.lastIndex = this.at;
    const found = sticky.exec(this.#text);
    if (found === null) throw new NoPython();
    this.at += found[0].length;
    return found[1]!;
  }

  #takes(sign: string): boolean {
    const space = /\s*/y;
    space.lastIndex = this.at;
    const at = this.at + space.exec(this.#text)![0].length;
    if (this.#text[at] !== sign) return false;
    this.at = at + 1;
    return true;
  }

  #expect(sign: string): void {
    if (!this.#takes(sign)) throw new NoPython();
  }
}

/** A number as Python reads it; its whole numbers have no limit. */
export function numberOf(word: string): unknown {
  const plain = word.replaceAll("_", "");
  if (/^[+-]?\d+$/.test(plain)) {
    const value = Number(plain);
    return Number.isSafeInteger(value) ? value : BigInt(plain.replace(/^\+/, ""));
  }
  if (!/^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/.test(plain)) throw new NoPython();
  const value = Number(plain);
  return Number.isInteger(value) ? new PythonFloat(value) : value;
}
