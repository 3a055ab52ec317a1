/** Splits the source of a template into tokens, with Jinja's rules for white space. */
import { JinjaError } from "./values.ts";

/** A piece of a template's source. */
export interface Token {
  /** What it is. An operator's type is its text. */
  readonly type:
    | "data"
    | "variable_begin"
    | "variable_end"
    | "block_begin"
    | "block_end"
    | "name"
    | "string"
    | "integer"
    | "float"
    | "operator"
    | "end";
  /** Its text; of a string its content. */
  readonly value: string;
  /** Line in the source, from 1. */
  readonly line: number;
}

const SPACE =
  "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const onlySpace = new RegExp(`^[${SPACE}]+$`);
const spaceAtEnd = new RegExp(`[${SPACE}]$`);
const spaces = new RegExp(`[${SPACE}]*`, "y");
const rawBegin = new RegExp(`\\{%[-+]?[${SPACE}]*raw[${SPACE}]*(?:-%\\}[${SPACE}]*|%\\})`, "y");
const rawEnd = new RegExp(
  `\\{%([-+]?)[${SPACE}]*endraw[${SPACE}]*(?:\\+%\\}|-%\\}[${SPACE}]*|%\\}\\n?)`,
  "g",
);
const numbers =
  /(?:(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?[eE][+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+))|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[\da-fA-F])+|[1-9](?:_?\d)*|0(?:_?0)*/y;
const names = /[\p{L}\p{N}\p{M}_]+/uy;
const operators = /\*\*|\/\/|==|!=|>=|<=|[+\-/*%~[\](){}><=.:|,;]/y;
const closing: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}" };

/**
 * Tokens of a template, with `trim_blocks` and `lstrip_blocks` on, as transformers has them.
 *
 * @throws {JinjaError} The source has a syntax error.
 */
export function tokenize(template: string): Token[] {
  return new Lexer(template).run();
}

class Lexer {
  readonly #source: string;
  readonly #tokens: Token[] = [];
  #at = 0;
  #line = 1;
  #counted = 0;

  constructor(template: string) {
    const source = template.replace(/\r\n?/g, "\n");
    this.#source = source.endsWith("\n") ? source.slice(0, -1) : source;
  }

  run(): Token[] {
    const source = this.#source;
    // Whether the next text begins a line: then white space before a block is dropped.
    let atLineStart = true;
    while (this.#at < source.length) {
      const start = this.#at;
      const next = this.#nextTag(start);
      if (next < 0) {
        this.#push("data", source.slice(start));
        break;
      }
      const kind = source[next + 1]!;
      const sign = source[next + 2];
      this.#push("data", textBefore(source.slice(start, next), { kind, sign, atLineStart }));
      this.#at = next;
      if (kind === "#") this.#comment(next);
      else if (kind === "{") this.#tag("variable", sign === "-" || sign === "+");
      else if (!this.#raw(next)) this.#tag("block", sign === "-" || sign === "+");
      atLineStart = source[this.#at - 1] === "\n";
    }
    this.#push("end", "");
    return this.#tokens;
  }

  #nextTag(from: number): number {
    const source = this.#source;
    for (let at = source.indexOf("{", from); at >= 0; at = source.indexOf("{", at + 1)) {
      const next = source[at + 1];
      if (next === "{" || next === "%" || next === "#") return at;
    }
    return -1;
  }

  #push(type: Token["type"], value: string): void {
    if (type === "data" && value === "") return;
    for (let i = this.#counted; i < this.#at; i++) if (this.#source[i] === "\n") this.#line++;
    this.#counted = Math.max(this.#counted, this.#at);
    this.#tokens.push({ type, value, line: this.#line });
  }

  #comment(start: number): void {
    const end = this.#source.indexOf("#}", start + 2);
    if (end < 0) throw this.#fail("Missing end of comment tag");
    this.#at = end + 2;
    const sign = this.#source[end - 1];
    if (sign === "-" && end - 1 >= start + 2) this.#skipSpace();
    else if (sign !== "+" && this.#source[this.#at] === "\n") this.#at++;
  }

  #raw(start: number): boolean {
    rawBegin.lastIndex = start;
    const begin = rawBegin.exec(this.#source);
    if (begin === null) return false;
    rawEnd.lastIndex = rawBegin.lastIndex;
    const end = rawEnd.exec(this.#source);
    if (end === null) throw this.#fail("Missing end of raw directive");
    const text = this.#source.slice(rawBegin.lastIndex, end.index);
    const atLineStart = begin[0].endsWith("\n");
    this.#push("data", textBefore(text, { kind: "%", sign: end[1] || undefined, atLineStart }));
    this.#at = rawEnd.lastIndex;
    return true;
  }

  #tag(kind: "variable" | "block", hasSign: boolean): void {
    this.#at += hasSign ? 3 : 2;
    this.#push(`${kind}_begin`, "");
    const close = kind === "variable" ? "}}" : "%}";
    const source = this.#source;
    const open: string[] = [];
    while (true) {
      this.#skipSpace();
      if (this.#at >= source.length) {
        throw this.#fail(`unexpected end of template, expected '${close}'`);
      }
      if (open.length === 0 && this.#closes(close, kind)) return;
      this.#inside(open);
    }
  }

  #closes(close: string, kind: "variable" | "block"): boolean {
    const source = this.#source;
    const sign = source[this.#at];
    const isSigned = sign === "-" || sign === "+" && kind === "block";
    const at = isSigned ? this.#at + 1 : this.#at;
    if (!source.startsWith(close, at)) return false;
    this.#push(`${kind}_end`, "");
    this.#at = at + 2;
    if (isSigned && sign === "-") this.#skipSpace();
    else if (!isSigned && kind === "block" && source[this.#at] === "\n") this.#at++;
    return true;
  }

  #inside(open: string[]): void {
    const source = this.#source;
    const first = source[this.#at]!;
    if (first === "'" || first === '"') return this.#string(first);
    const number = match(numbers, source, this.#at);
    if (number !== null && source[this.#at - 1] === "." && /[.eE]/.test(number)) {
      // After a dot there is no float: `a.0.1` is two subscripts.
      const digits = /^\d+/.exec(number)![0];
      this.#push("integer", digits);
      this.#at += digits.length;
    } else if (number !== null) {
      const isFloat = !/^0[xXbBoO]/.test(number) && /[.eE]/.test(number);
      this.#push(isFloat ? "float" : "integer", number.replaceAll("_", ""));
      this.#at += number.length;
    } else {
      const name = match(names, source, this.#at);
      const operator = name === null ? match(operators, source, this.#at) : null;
      const found = name ?? operator;
      if (found === null) throw this.#fail(`unexpected char ${JSON.stringify(first)}`);
      if (operator !== null) this.#balance(operator, open);
      this.#push(name === null ? "operator" : "name", found);
      this.#at += found.length;
    }
  }

  #balance(operator: string, open: string[]): void {
    if (operator in closing) open.push(closing[operator]!);
    if (!")]}".includes(operator)) return;
    if (open.pop() !== operator) throw this.#fail(`unexpected '${operator}'`);
  }

  #string(quote: string): void {
    const source = this.#source;
    let end = this.#at + 1;
    while (end < source.length && source[end] !== quote) end += source[end] === "\\" ? 2 : 1;
    if (end >= source.length) throw this.#fail("unexpected end of a string");
    this.#push("string", unescape(source.slice(this.#at + 1, end)));
    this.#at = end + 1;
  }

  #skipSpace(): void {
    spaces.lastIndex = this.#at;
    spaces.exec(this.#source);
    this.#at = spaces.lastIndex;
  }

  #fail(message: string): JinjaError {
    this.#push("end", "");
    return new JinjaError("TemplateSyntaxError", `${message} (line ${this.#line})`);
  }
}

function match(pattern: RegExp, source: string, at: number): string | null {
  pattern.lastIndex = at;
  return pattern.exec(source)?.[0] ?? null;
}

/** The text before a tag: without the white space that the tag takes away. */
function textBefore(
  text: string,
  tag: { kind: string; sign: string | undefined; atLineStart: boolean },
): string {
  if (tag.sign === "-") return trimEnd(text);
  if (tag.sign === "+" || tag.kind === "{") return text;
  const line = text.lastIndexOf("\n") + 1;
  if ((line > 0 || tag.atLineStart) && onlySpace.test(text.slice(line))) return text.slice(0, line);
  return text;
}

function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && spaceAtEnd.test(text[end - 1]!)) end--;
  return text.slice(0, end);
}

const escapes: Readonly<Record<string, string>> = {
  "\n": "",
  "\\": "\\",
  "'": "'",
  '"': '"',
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** Python's escapes in a string. */
function unescape(text: string): string {
  if (!text.includes("\\")) return text;
  const pattern = /\\(?:([0-7]{1,3})|x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([^]))/g;
  return text.replace(pattern, (whole, octal, x, u, long, other) => {
    if (octal !== undefined) return String.fromCharCode(parseInt(octal, 8));
    const hex = x ?? u ?? long;
    if (hex !== undefined) return String.fromCodePoint(Math.min(parseInt(hex, 16), 0x10ffff));
    return Object.hasOwn(escapes, other) ? escapes[other]! : whole;
  });
}
