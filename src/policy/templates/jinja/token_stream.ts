import type { Token } from "./lexer.ts";
import { JinjaError } from "./values.ts";

/** Statements, brackets and operators inside each other that are read: Python gives up sooner. */
const maxDepth = 150;

/** The tokens of a template, read one after the other. */
export class TokenStream {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  /** The token that is read next. */
  get current(): Token {
    return this.#tokens[this.#at]!;
  }

  /** The token after that. */
  get following(): Token {
    return this.#tokens[Math.min(this.#at + 1, this.#tokens.length - 1)]!;
  }

  /** Reads a token. At the end it stays. */
  take(): Token {
    const token = this.current;
    if (token.type !== "end") this.#at++;
    return token;
  }

  /** Whether the next token is this operator. */
  is(operator: string): boolean {
    return this.current.type === "operator" && this.current.value === operator;
  }

  /** Whether the next token is this name. */
  isName(name: string): boolean {
    return this.current.type === "name" && this.current.value === name;
  }

  /** Reads an operator if it is next. */
  skip(operator: string): boolean {
    if (!this.is(operator)) return false;
    this.#at++;
    return true;
  }

  /** Reads a name if it is next. */
  skipName(name: string): boolean {
    if (!this.isName(name)) return false;
    this.#at++;
    return true;
  }

  /** Reads a token that must be of this type. */
  expect(type: Token["type"]): Token {
    if (this.current.type === type) return this.take();
    throw this.fail(`expected token '${type}', got '${this.#shown()}'`);
  }

  /** Reads an operator that must be next. */
  expectOperator(operator: string): void {
    if (!this.skip(operator)) {
      throw this.fail(`expected token '${operator}', got '${this.#shown()}'`);
    }
  }

  /** Reads a name. */
  name(): string {
    return this.expect("name").value;
  }

  /** Runs a part of the parser one level deeper. */
  deeper<T>(run: () => T): T {
    if (++this.#depth > maxDepth) throw this.fail("too many nested parts");
    try {
      return run();
    } finally {
      this.#depth--;
    }
  }

  /** The error at this place. */
  fail(message: string): JinjaError {
    return new JinjaError("TemplateSyntaxError", `${message} (line ${this.current.line})`);
  }

  #shown(): string {
    const { type, value } = this.current;
    return type === "end" ? "end of template" : value === "" ? type : value;
  }
}
