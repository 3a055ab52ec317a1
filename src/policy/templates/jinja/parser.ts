/** Reads the tokens of a template into its syntax tree, as jinja2's parser does. */
import { type Token, tokenize } from "./lexer.ts";
import { parseExpressions } from "./expressions.ts";
import type { Body, Expression, Parameter, Statement, Target } from "./nodes.ts";
import { TokenStream } from "./token_stream.ts";
import { JinjaError } from "./values.ts";

/**
 * The syntax tree of a template.
 *
 * @throws {JinjaError} The source has a syntax error.
 */
export function parseTemplate(source: string): Body {
  const parser = new Parser(tokenize(source));
  return parser.template();
}

class Parser {
  readonly #tokens: TokenStream;
  readonly #expressions: ReturnType<typeof parseExpressions>;
  #loops = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = new TokenStream(tokens);
    this.#expressions = parseExpressions(this.#tokens);
  }

  template(): Body {
    const { body, end } = this.#body([]);
    if (end !== null) throw this.#tokens.fail(`Encountered unknown tag '${end}'`);
    return body;
  }

  /** Statements up to one of the given tags, whose name is read. */
  #body(ends: readonly string[]): { body: Body; end: string | null } {
    return this.#tokens.deeper(() => {
      const body: Statement[] = [];
      while (true) {
        const token = this.#tokens.take();
        if (token.type === "data") body.push({ type: "text", text: token.value });
        else if (token.type === "variable_begin") {
          body.push({ type: "output", value: this.#expressions.tuple() });
          this.#tokens.expect("variable_end");
        } else if (token.type === "block_begin") {
          const tag = this.#tokens.name();
          if (ends.includes(tag)) return { body, end: tag };
          body.push(...this.#statement(tag));
        } else {
          if (ends.length === 0) return { body, end: null };
          throw this.#tokens.fail(`Unexpected end of template: expected ${ends.join(" or ")}`);
        }
      }
    });
  }

  /** A body that has only one end, whose tag is read to its end. */
  #until(end: string): Body {
    const { body } = this.#body([end]);
    this.#blockEnd();
    return body;
  }

  #blockEnd(): void {
    this.#tokens.expect("block_end");
  }

  #statement(tag: string): Statement[] {
    switch (tag) {
      case "if":
        return [this.#if()];
      case "for":
        return [this.#for()];
      case "set":
        return [this.#set()];
      case "macro":
        return [this.#macro()];
      case "call":
        return [this.#call()];
      case "filter":
        return [this.#filter()];
      case "with":
        return [this.#with()];
      case "break":
      case "continue":
        if (this.#loops === 0) throw this.#tokens.fail(`'${tag}' outside loop`);
        this.#blockEnd();
        return [{ type: tag }];
      case "generation":
        this.#blockEnd();
        return [{
          type: "generation",
          body: this.#outsideLoop(() => this.#until("endgeneration")),
        }];
      case "block":
        return [this.#block()];
      case "autoescape": {
        const isOn = this.#expressions.expression();
        if (isOn.type !== "constant" || isOn.value !== false) {
          throw this.#tokens.fail("escaping of all that is written ('autoescape') is not known");
        }
        this.#blockEnd();
        return [{ type: "scope", body: this.#until("endautoescape") }];
      }
      case "extends":
      case "include":
      case "import":
      case "from":
        throw new JinjaError(
          "TypeError",
          `no loader for this environment specified: {% ${tag} %} reads another template, and a ` +
            "chat template must hold all that it needs",
        );
      default:
        throw this.#tokens.fail(`Encountered unknown tag '${tag}'`);
    }
  }

  #outsideLoop<T>(run: () => T): T {
    const loops = this.#loops;
    this.#loops = 0;
    try {
      return run();
    } finally {
      this.#loops = loops;
    }
  }

  #block(): Statement {
    const name = this.#tokens.name();
    this.#tokens.skipName("scoped");
    this.#tokens.skipName("required");
    this.#blockEnd();
    const { body } = this.#body(["endblock"]);
    this.#tokens.skipName(name);
    this.#blockEnd();
    return { type: "scope", body };
  }

  #if(): Statement {
    const test = this.#expressions.tuple({ withCondition: false });
    this.#blockEnd();
    const { body, end } = this.#body(["elif", "else", "endif"]);
    if (end === "elif") return { type: "if", test, body, otherwise: [this.#if()] };
    this.#blockEnd();
    return { type: "if", test, body, otherwise: end === "else" ? this.#until("endif") : [] };
  }

  #for(): Statement {
    const target = this.#target({ stop: "in" });
    if (!this.#tokens.skipName("in")) throw this.#tokens.fail("expected 'in'");
    const of = this.#expressions.tuple({ withCondition: false, stop: "recursive" });
    const test = this.#tokens.skipName("if") ? this.#expressions.expression() : null;
    const isRecursive = this.#tokens.skipName("recursive");
    this.#blockEnd();
    this.#loops++;
    const { body, end } = this.#body(["endfor", "else"]);
    this.#loops--;
    this.#blockEnd();
    const otherwise = end === "else" ? this.#until("endfor") : [];
    return { type: "for", target, of, test, isRecursive, body, otherwise };
  }

  #target(options: { stop?: string } = {}): Target {
    const one = (): Target => {
      if (this.#tokens.skip("(")) {
        const inner = this.#target();
        this.#tokens.expectOperator(")");
        return inner;
      }
      const name = this.#tokens.name();
      if (["true", "false", "none", "True", "False", "None"].includes(name)) {
        throw this.#tokens.fail(`can't assign to '${name}'`);
      }
      if (options.stop === undefined && this.#tokens.skip(".")) {
        return { type: "attribute", namespace: name, name: this.#tokens.name() };
      }
      return { type: "name", name };
    };
    const items = [one()];
    let isTuple = false;
    while (this.#tokens.skip(",")) {
      isTuple = true;
      if (this.#tokens.isName(options.stop ?? "") || this.#tokens.is("=")) break;
      if (this.#tokens.current.type === "block_end" || this.#tokens.is(")")) break;
      items.push(one());
    }
    return isTuple ? { type: "tuple", items } : items[0]!;
  }

  #set(): Statement {
    const target = this.#target();
    if (this.#tokens.skip("=")) {
      const value = this.#expressions.tuple();
      this.#blockEnd();
      return { type: "set", target, value };
    }
    const filter = this.#tokens.is("|") ? this.#expressions.filters(null) : null;
    this.#blockEnd();
    return {
      type: "capture",
      target,
      filter,
      body: this.#outsideLoop(() => this.#until("endset")),
    };
  }

  #macro(): Statement {
    const name = this.#tokens.name();
    const parameters = this.#parameters();
    this.#blockEnd();
    const body = this.#outsideLoop(() => this.#until("endmacro"));
    return { type: "macro", name, macro: { name, parameters, body } };
  }

  #call(): Statement {
    const parameters = this.#tokens.is("(") ? this.#parameters() : [];
    const call = this.#expressions.expression();
    if (call.type !== "call") throw this.#tokens.fail("expected call");
    this.#blockEnd();
    const body = this.#outsideLoop(() => this.#until("endcall"));
    return { type: "callBlock", call, macro: { name: "caller", parameters, body } };
  }

  #filter(): Statement {
    const filter = this.#expressions.filters(null, { isFirstNamed: true });
    this.#blockEnd();
    const body = this.#outsideLoop(() => this.#until("endfilter"));
    return { type: "filterBlock", filter, body };
  }

  #with(): Statement {
    const sets: [Target, Expression][] = [];
    while (this.#tokens.current.type !== "block_end") {
      if (sets.length > 0) this.#tokens.expectOperator(",");
      const target = this.#target();
      this.#tokens.expectOperator("=");
      sets.push([target, this.#expressions.expression()]);
    }
    this.#blockEnd();
    return { type: "with", sets, body: this.#until("endwith") };
  }

  #parameters(): Parameter[] {
    const parameters: Parameter[] = [];
    this.#tokens.expectOperator("(");
    while (!this.#tokens.is(")")) {
      if (parameters.length > 0) this.#tokens.expectOperator(",");
      if (this.#tokens.is(")")) break;
      const name = this.#tokens.name();
      const value = this.#tokens.skip("=") ? this.#expressions.expression() : null;
      if (value === null && parameters.at(-1)?.default) {
        throw this.#tokens.fail("non-default argument follows default argument");
      }
      parameters.push({ name, default: value });
    }
    this.#tokens.expectOperator(")");
    return parameters;
  }
}
