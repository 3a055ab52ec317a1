/** What the filters of a template have in common. */
import { type Budget, budgetAtHand } from "./budget.ts";
import { lower } from "./letter_case.ts";
import { withoutMarkup } from "./markup.ts";
import { toText } from "./text.ts";
import { type CallArguments, isTrue, iterate, Undefined } from "./values.ts";

/** What filters and tests need of the interpreter. */
export interface Tools {
  /** What may still be used. */
  readonly budget: Budget;
  /** `value.name`, as a template reads it. */
  attribute(value: unknown, name: string): unknown;
  /** `value[key]`, as a template reads it. */
  item(value: unknown, key: unknown): unknown;
  /** Another filter. */
  filter(name: string, value: unknown, given: CallArguments): unknown;
  /** A test. */
  test(name: string, value: unknown, given: CallArguments): boolean;
}

/** A filter. */
export type Filter = (value: unknown, given: CallArguments, tools: Tools) => unknown;

/** The entries of a value, counted. */
export function items(value: unknown, { budget }: Tools): readonly unknown[] {
  const list = iterate(value);
  budget.work(list.length);
  return list;
}

/** The same, and none of whatever is false. */
export function itemsOrNone(value: unknown, tools: Tools): readonly unknown[] {
  return isTrue(value) ? items(value, tools) : [];
}

/** Reads `a.b.0` of a value, for filters with `attribute`. */
export function reader(
  attribute: unknown,
  tools: Tools,
  otherwise?: unknown,
): (value: unknown) => unknown {
  if (attribute === null || attribute === undefined) return (value) => value;
  const parts = typeof attribute === "string"
    ? attribute.split(".").map((part) => /^\d+$/.test(part) ? BigInt(part) : part)
    : [attribute];
  return (value) => {
    const found = parts.reduce((of: unknown, part) => tools.item(of, part), value);
    return found instanceof Undefined && otherwise !== undefined && otherwise !== null
      ? otherwise
      : found;
  };
}

export function ignoringCase(isCaseSensitive: unknown): (value: unknown) => unknown {
  return (value) => {
    const text = withoutMarkup(value);
    if (typeof text !== "string" || isTrue(isCaseSensitive)) return value;
    budgetAtHand()?.work(text.length);
    return lower(text);
  };
}

export function text(value: unknown, { budget }: Tools): string {
  const result = toText(value);
  budget.make(result.length);
  return result;
}

/** The text of a value whose characters are looked at one by one. */
export function oneByOne(value: unknown, tools: Tools): string {
  const result = text(value, tools);
  tools.budget.each(result.length);
  return result;
}
