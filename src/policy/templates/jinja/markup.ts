/**
 * Texts that `safe` and `escape` made, as Python's `markupsafe` has them: whatever is added to one
 * by `+` or `%` or by one of its methods is escaped for HTML, also in a prompt.
 */
import type { Budget } from "./budget.ts";
import { type CallArguments, isNumber, JinjaError, Markup, Tuple, typeName } from "./values.ts";
import { replaceCounted, toText } from "./text.ts";

const signs: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "'": "&#39;",
  '"': "&#34;",
};

/** A text of HTML in which nothing of `text` is a sign of HTML. */
export function escapeText(text: string): string {
  return replaceCounted(text, /[&<>'"]/g, (sign) => signs[sign]!);
}

/** The text of a value: that of markup as it is, any other escaped. */
export function escaped(value: unknown): string {
  return value instanceof Markup ? value.text : escapeText(toText(value));
}

/** The text of markup, any other value as it is. */
export function withoutMarkup(value: unknown): unknown {
  return value instanceof Markup ? value.text : value;
}

/** Arguments of a call, without markup. */
export function plainGiven({ args, named }: CallArguments): CallArguments {
  if (!args.some(isMarkup) && ![...named.values()].some(isMarkup)) return { args, named };
  return {
    args: args.map(withoutMarkup),
    named: new Map([...named].map(([name, value]) => [name, withoutMarkup(value)])),
  };
}

function isMarkup(value: unknown): boolean {
  return value instanceof Markup;
}

/** `left + right`, where one is markup. */
export function addMarkup(left: unknown, right: unknown, budget: Budget): Markup {
  for (const value of [left, right]) {
    if (typeof value === "string" || value instanceof Markup) continue;
    throw new JinjaError(
      "TypeError",
      `unsupported operand type(s) for +: '${typeName(left)}' and '${typeName(right)}'`,
    );
  }
  const [a, b] = [escaped(left), escaped(right)];
  budget.make(a.length + b.length);
  return new Markup(a + b);
}

/** What stands behind the `%` of markup: numbers as they are, any other escaped. */
export function escapedValues(value: unknown): unknown {
  if (value instanceof Tuple) return new Tuple(value.items.map(escapedValue));
  if (value instanceof Map) {
    return new Map([...value].map(([key, entry]) => [key, escapedValue(entry)]));
  }
  return escapedValue(value);
}

function escapedValue(value: unknown): unknown {
  return isNumber(value) ? value : escaped(value);
}

/** Filters that give markup where they are given some. */
const keeping: ReadonlySet<string> = new Set(
  ["capitalize", "center", "indent", "last", "lower", "reverse", "string", "trim", "upper"],
);

/** The result of a filter that was given the text of markup. */
export function filteredMarkup(name: string, result: unknown): unknown {
  return typeof result === "string" && keeping.has(name) ? new Markup(result) : result;
}

/** Methods of which one argument is escaped, and which it is. */
const escapedArgument: Readonly<Record<string, number>> = {
  center: 1,
  ljust: 1,
  replace: 1,
  rjust: 1,
};

/** What a method of markup is given. */
export function methodGiven(name: string, { args, named }: CallArguments): CallArguments {
  if (
    name === "join" && args.length === 1 && (Array.isArray(args[0]) || args[0] instanceof Tuple)
  ) {
    const items = Array.isArray(args[0]) ? args[0] : args[0].items;
    return { args: [items.map(escaped)], named };
  }
  if (name === "format") {
    return {
      args: args.map(escapedValue),
      named: new Map([...named].map(([key, value]) => [key, escapedValue(value)])),
    };
  }
  const place = escapedArgument[name];
  return plainGiven({
    args: args.map((value, at) => at === place ? escaped(value) : value),
    named,
  });
}

/** What a method of markup gives: texts are markup, too. */
export function methodResult(result: unknown): unknown {
  if (typeof result === "string") return new Markup(result);
  if (Array.isArray(result)) return result.map(methodResult);
  return result instanceof Tuple ? new Tuple(result.items.map(methodResult)) : result;
}
