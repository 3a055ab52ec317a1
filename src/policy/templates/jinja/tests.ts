/** Jinja's tests: what stands behind `is`. */
import { Arguments } from "./arguments.ts";
import { budgetAtHand } from "./budget.ts";
import { filters } from "./filters.ts";
import { toText } from "./text.ts";
import {
  ArgumentsText,
  asNumber,
  Callable,
  type CallArguments,
  compare,
  DictView,
  equals,
  iterate,
  JinjaError,
  keyOf,
  Markup,
  OneTime,
  Range,
  Tuple,
  typeName,
  Undefined,
} from "./values.ts";

/** A test. */
export type Test = (value: unknown, given: CallArguments) => boolean;

function other(given: CallArguments): unknown {
  return new Arguments("test", ["other"], given, 1).get("other");
}

const equal: Test = (value, given) => equals(value, other(given));
const unequal: Test = (value, given) => !equals(value, other(given));

function ordered(sign: string, fits: (order: number) => boolean): Test {
  return (value, given) => fits(compare(value, other(given), sign));
}

const less = ordered("<", (order) => order < 0);
const greater = ordered(">", (order) => order > 0);
const atMost = ordered("<=", (order) => order <= 0);
const atLeast = ordered(">=", (order) => order >= 0);

function remainder(value: unknown, by: bigint): bigint {
  const number = asNumber(value);
  if (number === null) {
    if (value instanceof Undefined) value.fail();
    throw new JinjaError("TypeError", `not a number: ${typeName(value)}`);
  }
  if (by === 0n) throw new JinjaError("ZeroDivisionError", "integer modulo by zero");
  // What is not whole is neither even nor odd.
  if (typeof number === "number" && !Number.isInteger(number)) return -1n;
  const rest = BigInt(number) % by;
  return rest < 0n ? rest + (by < 0n ? -by : by) : rest;
}

function isLower(text: string): boolean {
  return /\p{Ll}/u.test(text) && !/[\p{Lu}\p{Lt}]/u.test(text);
}

function isUpper(text: string): boolean {
  return /\p{Lu}/u.test(text) && !/[\p{Ll}\p{Lt}]/u.test(text);
}

const isText: Test = (value) => typeof value === "string" || value instanceof ArgumentsText;

function isSequence(value: unknown): boolean {
  return typeof value === "string" || Array.isArray(value) || value instanceof Map ||
    value instanceof Tuple || value instanceof Range || value instanceof ArgumentsText ||
    value instanceof Undefined;
}

/** Python's `item in container`. */
export function contains(container: unknown, item: unknown): boolean {
  if (container instanceof Markup) return contains(container.text, item);
  if (item instanceof Markup) return contains(container, item.text);
  if (
    typeof container === "string" || container instanceof ArgumentsText
  ) {
    const text = typeof container === "string" ? container : (container as ArgumentsText).text;
    if (typeof item === "string") {
      budgetAtHand()?.search(text, item);
      return text.includes(item);
    }
    throw new JinjaError(
      "TypeError",
      `'in <string>' requires string as left operand, not ${typeName(item)}`,
    );
  }
  const dict = container instanceof ArgumentsText ? container.dict : container;
  if (dict instanceof Map) {
    const key = keyOf(item);
    if (dict.has(key)) return true;
    budgetAtHand()?.work(asNumber(item) === null ? 1 : dict.size);
    return asNumber(item) !== null && [...dict.keys()].some((key) => equals(key, item));
  }
  if (container === null || asNumber(container) !== null) {
    throw new JinjaError("TypeError", `argument of type '${typeName(container)}' is not iterable`);
  }
  return iterate(container).some((entry) => equals(entry, item));
}

/** The tests by name. */
export const tests: Readonly<Record<string, Test>> = {
  boolean: (value) => typeof value === "boolean",
  // Python finds a __call__ in what is undefined, which fails when it is called.
  callable: (value) => value instanceof Callable || value instanceof Undefined,
  defined: (value) => !(value instanceof Undefined),
  divisibleby: (value, given) => remainder(value, BigInt(asNumber(other(given)) ?? 0n)) === 0n,
  eq: equal,
  "==": equal,
  equalto: equal,
  escaped: (value) => value instanceof Markup,
  even: (value) => remainder(value, 2n) === 0n,
  false: (value) => value === false,
  filter: (value) => typeof value === "string" && Object.hasOwn(filters, value),
  float: (value) => typeof value === "number",
  ge: atLeast,
  ">=": atLeast,
  gt: greater,
  ">": greater,
  greaterthan: greater,
  in: (value, given) => contains(other(given), value),
  integer: (value) => typeof value === "bigint",
  iterable: (value) =>
    isSequence(value) || value instanceof DictView || value instanceof OneTime ||
    value instanceof Undefined,
  le: atMost,
  "<=": atMost,
  lower: (value) => isLower(toText(value)),
  lt: less,
  "<": less,
  lessthan: less,
  mapping: (value) => value instanceof Map,
  ne: unequal,
  "!=": unequal,
  none: (value) => value === null,
  number: (value) => asNumber(value) !== null,
  odd: (value) => remainder(value, 2n) === 1n,
  sameas: (value, given) => value === other(given),
  sequence: isSequence,
  string: isText,
  test: (value) => typeof value === "string" && Object.hasOwn(tests, value),
  true: (value) => value === true,
  undefined: (value) => value instanceof Undefined,
  upper: (value) => isUpper(toText(value)),
};
