import type { Expression, Given } from "./nodes.ts";
import type { TokenStream } from "./token_stream.ts";

/** How a list of expressions is read. */
export interface TupleOptions {
  /** Whether `a if b` is part of it. Default `true`. */
  readonly withCondition?: boolean;
  /** A name that ends it. */
  readonly stop?: string;
}

/** The readers of expressions that the statements need. */
export interface Expressions {
  /** One expression. */
  expression(): Expression;
  /** Expressions with commas between them: a tuple if there is more than one. */
  tuple(options?: TupleOptions): Expression;
  /** `|a|b`; with `isFirstNamed` the first stands without its bar. */
  filters(of: Expression | null, options?: { isFirstNamed?: boolean }): Expression;
}

const comparisons = ["==", "!=", "<", "<=", ">", ">="];
const constants: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
};
const nothing: Given = { args: [], named: [], star: null, doubleStar: null };

/** Readers of expressions on a stream of tokens, with jinja2's order of operators. */
export function parseExpressions(tokens: TokenStream): Expressions {
  const expression = (withCondition = true): Expression =>
    tokens.deeper(() => withCondition ? condition() : or());

  function condition(): Expression {
    let value = or();
    while (tokens.skipName("if")) {
      const test = or();
      const otherwise = tokens.skipName("else") ? expression() : null;
      value = { type: "condition", test, then: value, otherwise };
    }
    return value;
  }

  function or(): Expression {
    let left = and();
    while (tokens.skipName("or")) left = { type: "or", left, right: and() };
    return left;
  }

  function and(): Expression {
    let left = not();
    while (tokens.skipName("and")) left = { type: "and", left, right: not() };
    return left;
  }

  function not(): Expression {
    if (!tokens.skipName("not")) return compare();
    return { type: "not", of: tokens.deeper(not) };
  }

  function compare(): Expression {
    const first = sum();
    const rest: { operator: string; value: Expression }[] = [];
    while (true) {
      const { type, value } = tokens.current;
      if (type === "operator" && comparisons.includes(value)) {
        tokens.take();
        rest.push({ operator: value, value: sum() });
      } else if (tokens.skipName("in")) {
        rest.push({ operator: "in", value: sum() });
      } else if (tokens.isName("not") && tokens.following.value === "in") {
        tokens.take();
        tokens.take();
        rest.push({ operator: "not in", value: sum() });
      } else break;
    }
    return rest.length === 0 ? first : { type: "compare", first, rest };
  }

  function binary(operators: readonly string[], operand: () => Expression): Expression {
    let left = operand();
    while (tokens.current.type === "operator" && operators.includes(tokens.current.value)) {
      const operator = tokens.take().value;
      left = { type: "binary", operator, left, right: operand() };
    }
    return left;
  }

  const sum = () => binary(["+", "-"], concat);
  const product = () => binary(["*", "/", "//", "%"], power);
  const power = () => binary(["**"], () => unary());

  function concat(): Expression {
    const items = [product()];
    while (tokens.skip("~")) items.push(product());
    return items.length === 1 ? items[0]! : { type: "concat", items };
  }

  function unary(withFilter = true): Expression {
    let value: Expression;
    if (tokens.skip("-")) value = { type: "negative", of: tokens.deeper(() => unary(false)) };
    else if (tokens.skip("+")) value = { type: "positive", of: tokens.deeper(() => unary(false)) };
    else value = primary();
    value = postfix(value);
    return withFilter ? filters(value) : value;
  }

  function primary(): Expression {
    const { type, value } = tokens.current;
    if (type === "name") {
      tokens.take();
      if (Object.hasOwn(constants, value)) return { type: "constant", value: constants[value] };
      return { type: "name", name: value };
    }
    if (type === "string") {
      let text = "";
      while (tokens.current.type === "string") text += tokens.take().value;
      return { type: "constant", value: text };
    }
    if (type === "integer") return { type: "constant", value: BigInt(tokens.take().value) };
    if (type === "float") return { type: "constant", value: Number(tokens.take().value) };
    if (tokens.skip("(")) {
      const inner = tuple({}, true);
      tokens.expectOperator(")");
      return inner;
    }
    if (tokens.skip("[")) return { type: "list", items: until("]", () => expression()) };
    if (tokens.skip("{")) {
      const entries = until("}", () => {
        const key = expression();
        tokens.expectOperator(":");
        return [key, expression()] as const;
      });
      return { type: "dict", entries };
    }
    throw tokens.fail(`unexpected '${value === "" ? type : value}'`);
  }

  /** Things with commas between them, up to a closing bracket. */
  function until<T>(close: string, one: () => T): T[] {
    const items: T[] = [];
    while (!tokens.is(close)) {
      if (items.length > 0) tokens.expectOperator(",");
      if (tokens.is(close)) break;
      items.push(one());
    }
    tokens.expectOperator(close);
    return items;
  }

  function tuple(options: TupleOptions = {}, isInBrackets = false): Expression {
    const { withCondition = true, stop } = options;
    const items: Expression[] = [];
    let isTuple = false;
    while (true) {
      if (items.length > 0) {
        if (!tokens.skip(",")) break;
        isTuple = true;
      }
      const { type } = tokens.current;
      if (type === "variable_end" || type === "block_end" || tokens.is(")")) break;
      if (stop !== undefined && tokens.isName(stop)) break;
      items.push(expression(withCondition));
    }
    if (!isTuple && items.length > 0) return items[0]!;
    if (items.length === 0 && !isInBrackets) {
      throw tokens.fail("Expected an expression");
    }
    return { type: "tuple", items };
  }

  function postfix(start: Expression): Expression {
    let value = start;
    while (true) {
      if (tokens.is(".") || tokens.is("[")) value = subscript(value);
      else if (tokens.is("(")) value = { type: "call", callee: value, given: given() };
      else return value;
    }
  }

  function subscript(of: Expression): Expression {
    if (tokens.skip(".")) {
      const token = tokens.take();
      if (token.type === "name") return { type: "attribute", of, name: token.value };
      if (token.type !== "integer") throw tokens.fail("expected name or number");
      return { type: "item", of, key: { type: "constant", value: BigInt(token.value) } };
    }
    tokens.expectOperator("[");
    const keys = until("]", slice);
    if (keys.length === 0) throw tokens.fail("expected subscript expression");
    return { type: "item", of, key: keys.length === 1 ? keys[0]! : { type: "tuple", items: keys } };
  }

  function slice(): Expression {
    const parts: (Expression | null)[] = [null];
    let isSlice = false;
    while (!tokens.is("]") && !tokens.is(",")) {
      if (tokens.skip(":")) {
        isSlice = true;
        parts.push(null);
      } else if (parts.at(-1) === null) parts[parts.length - 1] = expression();
      else throw tokens.fail(`unexpected '${tokens.current.value}'`);
    }
    if (!isSlice) {
      if (parts[0] === null || parts[0] === undefined) throw tokens.fail("unexpected ']'");
      return parts[0];
    }
    if (parts.length > 3) throw tokens.fail("a slice has at most three parts");
    const [start = null, stop = null, stride = null] = parts;
    return { type: "slice", start, stop, stride };
  }

  function given(): Given {
    tokens.expectOperator("(");
    const args: Expression[] = [];
    const named: [string, Expression][] = [];
    let star: Expression | null = null;
    let doubleStar: Expression | null = null;
    until(")", () => {
      if (tokens.skip("*")) star = expression();
      else if (tokens.skip("**")) doubleStar = expression();
      else if (
        tokens.current.type === "name" && tokens.following.value === "=" &&
        tokens.following.type === "operator"
      ) {
        const name = tokens.name();
        tokens.expectOperator("=");
        named.push([name, expression()]);
      } else if (named.length > 0) throw tokens.fail("invalid syntax for function call expression");
      else args.push(expression());
    });
    return { args, named, star, doubleStar };
  }

  function filters(start: Expression | null, options: { isFirstNamed?: boolean } = {}): Expression {
    let value = start;
    let isNamed = options.isFirstNamed ?? false;
    while (true) {
      if (isNamed || tokens.skip("|")) {
        isNamed = false;
        const name = dotted();
        value = { type: "filter", name, of: value, given: tokens.is("(") ? given() : nothing };
      } else if (value !== null && tokens.skipName("is")) value = test(value);
      else if (value !== null && tokens.is("(")) {
        value = { type: "call", callee: value, given: given() };
      } else return value!;
    }
  }

  function dotted(): string {
    let name = tokens.name();
    while (tokens.skip(".")) name += `.${tokens.name()}`;
    return name;
  }

  function test(of: Expression): Expression {
    const isNegated = tokens.skipName("not");
    const name = dotted();
    let arguments_ = nothing;
    if (tokens.is("(")) arguments_ = given();
    else if (beginsArgument()) arguments_ = { ...nothing, args: [postfix(primary())] };
    const result: Expression = { type: "test", name, of, given: arguments_ };
    return isNegated ? { type: "not", of: result } : result;
  }

  function beginsArgument(): boolean {
    const { type, value } = tokens.current;
    if (type === "name") return !["else", "or", "and", "is"].includes(value);
    if (type === "string" || type === "integer" || type === "float") return true;
    return type === "operator" && (value === "[" || value === "{");
  }

  return { expression: () => expression(), tuple: (options) => tuple(options), filters };
}
