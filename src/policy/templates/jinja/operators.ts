/** Python's operators. */
import type { Budget } from "./budget.ts";
import { percent } from "./format.ts";
import { addMarkup, escapedValues, withoutMarkup } from "./markup.ts";
import {
  ArgumentsDict,
  ArgumentsText,
  asNumber,
  JinjaError,
  Markup,
  toIndex,
  Tuple,
  typeName,
  Undefined,
} from "./values.ts";

/** Bits of an int: enough for anything a template says, too few to stop the process. */
const maxBits = 100_000;

/** `left operator right`. */
export function binary(operator: string, left: unknown, right: unknown, budget: Budget): unknown {
  for (const value of [left, right]) {
    if (
      value instanceof Undefined &&
      !(operator === "%" && (typeof left === "string" || left instanceof Markup))
    ) value.fail();
  }
  if (operator === "%" && typeof left === "string") return percent(left, right, budget);
  if (left instanceof Markup || right instanceof Markup) {
    return withMarkup(operator, left, right, budget);
  }
  if (operator === "+") {
    const sum = joined(left, right, budget);
    if (sum !== undefined) return sum;
  }
  if (operator === "*") {
    const product = repeated(left, right, budget) ?? repeated(right, left, budget);
    if (product !== undefined) return product;
  }
  const x = asNumber(left);
  const y = asNumber(right);
  if (x === null || y === null) throw unsupported(operator, left, right);
  if (typeof x === "bigint" && typeof y === "bigint") return integers(operator, x, y, budget);
  return floats(operator, Number(x), Number(y));
}

function withMarkup(operator: string, left: unknown, right: unknown, budget: Budget): Markup {
  if (operator === "+") return addMarkup(left, right, budget);
  if (operator === "%" && left instanceof Markup) {
    return new Markup(percent(left.text, escapedValues(right), budget));
  }
  const product = operator !== "*"
    ? undefined
    : repeated(withoutMarkup(left), right, budget) ?? repeated(withoutMarkup(right), left, budget);
  if (typeof product === "string") return new Markup(product);
  throw unsupported(operator, left, right);
}

function unsupported(operator: string, left: unknown, right: unknown): JinjaError {
  const shown = operator === "**" ? "** or pow()" : operator;
  if (operator === "+" && typeof left === "string") {
    return new JinjaError(
      "TypeError",
      `can only concatenate str (not "${typeName(right)}") to str`,
    );
  }
  return new JinjaError(
    "TypeError",
    `unsupported operand type(s) for ${shown}: '${typeName(left)}' and '${typeName(right)}'`,
  );
}

function joined(left: unknown, right: unknown, budget: Budget): unknown {
  if (Array.isArray(left) && Array.isArray(right)) {
    budget.make(left.length + right.length);
    return [...left, ...right];
  }
  if (left instanceof Tuple && right instanceof Tuple) {
    budget.make(left.items.length + right.items.length);
    return new Tuple([...left.items, ...right.items]);
  }
  // A call's arguments are their JSON where a template puts them behind a text.
  const a = typeof right === "string" || right instanceof ArgumentsText ? textOf(left) : left;
  const b = typeof a === "string" ? textOf(right) : right;
  if (typeof a !== "string" || typeof b !== "string") return undefined;
  budget.make(a.length + b.length);
  return a + b;
}

function textOf(value: unknown): unknown {
  if (value instanceof ArgumentsText) return value.text;
  return value instanceof ArgumentsDict ? value.toJsonText() : value;
}

function repeated(value: unknown, by: unknown, budget: Budget): unknown {
  const times = typeof by === "bigint" || typeof by === "boolean"
    ? Math.max(0, toIndex(BigInt(by)))
    : null;
  if (times === null) return undefined;
  if (times === Number.MAX_SAFE_INTEGER && (typeof value === "string" || Array.isArray(value))) {
    throw new JinjaError("OverflowError", "cannot fit 'int' into an index-sized integer");
  }
  if (typeof value === "string") {
    budget.make(value.length * times);
    return value.repeat(times);
  }
  const items = Array.isArray(value) ? value : value instanceof Tuple ? value.items : null;
  if (items === null) return undefined;
  budget.make(items.length * times);
  budget.each(items.length * times);
  const all = Array.from({ length: items.length * times }, (_, at) => items[at % items.length]);
  return Array.isArray(value) ? all : new Tuple(all);
}

function integers(operator: string, x: bigint, y: bigint, budget: Budget): bigint | number {
  switch (operator) {
    case "+":
      return checked(x + y, budget);
    case "-":
      return checked(x - y, budget);
    case "*":
      return checked(x * y, budget);
    case "**":
      return power(x, y, budget);
  }
  if (y === 0n) throw new JinjaError("ZeroDivisionError", "division by zero");
  if (operator === "/") return Number(x) / Number(y);
  const rest = x % y;
  const isOff = rest !== 0n && (rest < 0n) !== (y < 0n);
  if (operator === "%") return isOff ? rest + y : rest;
  return x / y - (isOff ? 1n : 0n);
}

function checked(value: bigint, budget: Budget): bigint {
  if (value < 1n << 64n && value > -(1n << 64n)) return value;
  budget.work(256);
  if (value >> BigInt(maxBits) === 0n || value >> BigInt(maxBits) === -1n) return value;
  throw new JinjaError("OverflowError", "int too large");
}

function power(x: bigint, y: bigint, budget: Budget): bigint | number {
  if (y < 0n) {
    if (x === 0n) {
      throw new JinjaError("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    }
    return Number(x) ** Number(y);
  }
  const bits = (x < 0n ? -x : x).toString(2).length;
  if (bits > 1 && BigInt(bits) * y > BigInt(maxBits)) {
    throw new JinjaError("OverflowError", "int too large");
  }
  if (bits === 1) return x === -1n && y % 2n === 0n ? 1n : y === 0n ? 1n : x;
  budget.work(bits * Number(y));
  return x ** y;
}

function floats(operator: string, x: number, y: number): number {
  switch (operator) {
    case "+":
      return x + y;
    case "-":
      return x - y;
    case "*":
      return x * y;
    case "**":
      if (x < 0 && !Number.isInteger(y)) {
        throw new JinjaError("ValueError", "complex numbers are not supported");
      }
      return x ** y;
  }
  if (y === 0) {
    const what = operator === "/"
      ? "float division by zero"
      : `float ${operator === "%" ? "modulo" : "floor division by zero"}`;
    throw new JinjaError("ZeroDivisionError", what);
  }
  if (operator === "/") return x / y;
  const rest = x % y;
  const modulo = rest === 0 ? 0 * Math.sign(y) : (rest < 0) !== (y < 0) ? rest + y : rest;
  return operator === "%" ? modulo : Math.round((x - modulo) / y);
}

/** `-value` and `+value`. */
export function sign(operator: "negative" | "positive", value: unknown): unknown {
  const number = asNumber(value);
  if (number !== null) return operator === "positive" ? number : -number;
  if (value instanceof Undefined) value.fail();
  throw new JinjaError(
    "TypeError",
    `bad operand type for unary ${operator === "negative" ? "-" : "+"}: '${typeName(value)}'`,
  );
}
