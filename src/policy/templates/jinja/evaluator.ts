/** Values of the expressions of a template. */
import type { Budget } from "./budget.ts";
import type { Tools } from "./filter.ts";
import { filters } from "./filters.ts";
import { Group } from "./sequence_filters.ts";
import { Dynamic, makeGlobals } from "./globals.ts";
import { filteredMarkup, methodResult, plainGiven, withoutMarkup } from "./markup.ts";
import { methodOf } from "./methods.ts";
import { charAt } from "./text_methods.ts";
import type { Expression, Given } from "./nodes.ts";
import { binary, sign } from "./operators.ts";
import { codePoints, repr, toText } from "./text.ts";
import { contains, tests } from "./tests.ts";
import {
  ArgumentsText,
  Callable,
  type CallArguments,
  compare,
  equals,
  isHashable,
  isTrue,
  iterate,
  JinjaError,
  keyOf,
  Markup,
  Namespace,
  Range,
  sizeOf,
  toIndex,
  Tuple,
  typeName,
  Undefined,
  Unsafe,
} from "./values.ts";

/** Names of one block; those around it are its parent's. */
export class Scope {
  readonly #names = new Map<string, unknown>();

  constructor(readonly parent: Scope | null) {}

  get(name: string): { value: unknown } | null {
    const value = this.#names.get(name);
    return value !== undefined ? { value } : this.parent === null ? null : this.parent.get(name);
  }

  set(name: string, value: unknown): void {
    this.#names.set(name, value);
  }
}

/** Computes expressions. */
export class Evaluator implements Tools {
  readonly budget: Budget;
  readonly #variables: ReadonlyMap<string, unknown>;
  readonly #globals: ReadonlyMap<string, unknown>;

  constructor(
    { variables, now, budget }: {
      readonly variables: ReadonlyMap<string, unknown>;
      readonly now: () => Date;
      readonly budget: Budget;
    },
  ) {
    this.budget = budget;
    this.#variables = variables;
    this.#globals = makeGlobals({ budget, now });
  }

  value(node: Expression, scope: Scope): unknown {
    this.budget.step();
    switch (node.type) {
      case "constant":
        return node.value;
      case "name":
        return this.name(node.name, scope);
      case "list":
        return node.items.map((item) => this.value(item, scope));
      case "tuple":
        return new Tuple(node.items.map((item) => this.value(item, scope)));
      case "dict":
        return new Map(
          node.entries.map(([key, value]) =>
            [keyOf(this.value(key, scope)), this.value(value, scope)] as const
          ),
        );
      case "not":
        return !isTrue(this.value(node.of, scope));
      case "negative":
      case "positive":
        return sign(node.type, this.value(node.of, scope));
      case "binary":
        return binary(
          node.operator,
          this.value(node.left, scope),
          this.value(node.right, scope),
          this.budget,
        );
      case "and": {
        const left = this.value(node.left, scope);
        return isTrue(left) ? this.value(node.right, scope) : left;
      }
      case "or": {
        const left = this.value(node.left, scope);
        return isTrue(left) ? left : this.value(node.right, scope);
      }
      case "concat": {
        const texts = node.items.map((item) => toText(this.value(item, scope)));
        this.budget.make(texts.reduce((total, text) => total + text.length, 0));
        return texts.join("");
      }
      case "compare":
        return this.#compare(node, scope);
      case "condition":
        if (isTrue(this.value(node.test, scope))) return this.value(node.then, scope);
        if (node.otherwise !== null) return this.value(node.otherwise, scope);
        return new Undefined(
          "the inline if-expression evaluated to false and no else section was defined.",
        );
      case "attribute":
        return this.attribute(this.value(node.of, scope), node.name);
      case "item":
        return this.#item(node, scope);
      case "slice":
        throw new JinjaError("TypeError", "a slice stands alone");
      case "call":
        return this.call(this.value(node.callee, scope), this.given(node.given, scope));
      case "filter":
        return this.filtered(node, undefined, scope);
      case "test":
        return this.test(node.name, this.value(node.of, scope), this.given(node.given, scope));
    }
  }

  name(name: string, scope: Scope): unknown {
    const found = scope.get(name);
    if (found !== null) return found.value;
    if (this.#variables.has(name)) return this.#variables.get(name);
    return this.#globals.get(name) ?? new Undefined(`${repr(name)} is undefined`);
  }

  /** The list whose places a loop counts through: `for i in range(1, messages | length)`. */
  counted(of: Expression, scope: Scope): readonly unknown[] | null {
    if (of.type !== "call" || of.callee.type !== "name" || of.callee.name !== "range") return null;
    const length = of.given.args.at(-1);
    if (length?.type !== "filter" || length.name !== "length" || length.of === null) return null;
    const list = this.value(length.of, scope);
    return Array.isArray(list) ? list : null;
  }

  #compare(node: Expression & { type: "compare" }, scope: Scope): boolean {
    let left = this.value(node.first, scope);
    for (const { operator, value } of node.rest) {
      const right = this.value(value, scope);
      if (!this.#holds(operator, left, right)) return false;
      left = right;
    }
    return true;
  }

  #holds(operator: string, left: unknown, right: unknown): boolean {
    this.budget.work(sizeOf(left) + sizeOf(right));
    switch (operator) {
      case "==":
        return equals(left, right);
      case "!=":
        return !equals(left, right);
      case "in":
        return contains(right, left);
      case "not in":
        return !contains(right, left);
    }
    const order = compare(left, right, operator);
    if (operator === "<") return order < 0;
    if (operator === "<=") return order <= 0;
    return operator === ">" ? order > 0 : order >= 0;
  }

  attribute(of: unknown, name: string): unknown {
    if (of instanceof Undefined) of.fail();
    if (of instanceof Namespace) {
      return of.values.has(name) ? of.values.get(name) : missing(of, name);
    }
    if (of instanceof Dynamic) return of.read(name) ?? missing(of, name);
    if (of instanceof Group && (name === "grouper" || name === "list")) return of[name];
    if (of instanceof Callable) return of.attributes.get(name) ?? missing(of, name);
    const method = methodOf(of, name, this.budget, this);
    if (method !== undefined) return method;
    const dict = of instanceof ArgumentsText ? of.dict : of;
    return dict instanceof Map && dict.has(name) ? dict.get(name) : missing(of, name);
  }

  item(of: unknown, key: unknown): unknown {
    if (of instanceof Undefined) of.fail();
    const found = itemOf(of, key);
    if (found !== undefined) return found;
    return typeof key === "string" ? this.attribute(of, key) : missing(of, key);
  }

  #item(node: Expression & { type: "item" }, scope: Scope): unknown {
    const of = this.value(node.of, scope);
    if (of instanceof Markup) {
      return methodResult(this.#itemOf(of.text, node, scope));
    }
    return this.#itemOf(of, node, scope);
  }

  #itemOf(of: unknown, node: Expression & { type: "item" }, scope: Scope): unknown {
    if (node.key.type !== "slice") return this.item(of, this.value(node.key, scope));
    if (of instanceof Undefined) of.fail();
    const { start, stop, stride } = node.key;
    const [from, to, by] = [start, stop, stride].map((part) => {
      const value = part === null ? null : this.value(part, scope);
      if (value === null) return null;
      if (typeof value === "bigint" || typeof value === "boolean") return toIndex(BigInt(value));
      if (value instanceof Undefined) value.fail();
      throw new JinjaError("TypeError", "slice indices must be integers or None");
    });
    return this.#slice(of, from ?? null, to ?? null, by ?? 1);
  }

  #slice(of: unknown, start: number | null, stop: number | null, by: number): unknown {
    if (by === 0) throw new JinjaError("ValueError", "slice step cannot be zero");
    const text = of instanceof ArgumentsText ? of.text : of;
    const list = typeof text === "string"
      ? codePoints(text)
      : Array.isArray(text)
      ? text
      : text instanceof Tuple
      ? text.items
      : text instanceof Range
      ? text.toArray()
      : null;
    if (list === null) {
      const what = of instanceof Map ? "unhashable type: 'slice'" : undefined;
      throw new JinjaError("TypeError", what ?? `'${typeName(of)}' object is not subscriptable`);
    }
    const length = list.length;
    const clamp = (value: number | null, otherwise: number) => {
      if (value === null) return otherwise;
      const index = value < 0 ? value + length : value;
      return by > 0
        ? Math.min(Math.max(index, 0), length)
        : Math.min(Math.max(index, -1), length - 1);
    };
    const from = clamp(start, by > 0 ? 0 : length - 1);
    const to = clamp(stop, by > 0 ? length : -1);
    this.budget.work(length);
    if (by === 1 && typeof list === "string") return list.slice(from, Math.max(from, to));
    const picked: unknown[] = [];
    for (let i = from; by > 0 ? i < to : i > to; i += by) picked.push(list[i]);
    if (typeof text === "string") return picked.join("");
    return text instanceof Tuple ? new Tuple(picked) : picked;
  }

  given(given: Given, scope: Scope): CallArguments {
    const args = given.args.map((value) => this.value(value, scope));
    const named = new Map(
      given.named.map(([name, value]) => [name, this.value(value, scope)] as const),
    );
    if (given.star !== null) args.push(...iterate(this.value(given.star, scope)));
    if (given.doubleStar !== null) {
      const more = this.value(given.doubleStar, scope);
      if (!(more instanceof Map)) {
        throw new JinjaError(
          "TypeError",
          `argument after ** must be a mapping, not ${typeName(more)}`,
        );
      }
      for (const [name, value] of more) named.set(toText(name), value);
    }
    return { args, named };
  }

  call(callee: unknown, given: CallArguments): unknown {
    this.#countGiven(given);
    if (callee instanceof Callable) return callee.call(given);
    if (callee instanceof Dynamic && callee.call !== undefined) return callee.call(given);
    if (callee instanceof Unsafe) callee.fail();
    if (callee instanceof Undefined) callee.fail();
    throw new JinjaError("TypeError", `'${typeName(callee)}' object is not callable`);
  }

  /** What is called reads what it is given: that counts before it runs. */
  #countGiven({ args, named }: CallArguments): void {
    for (const value of args) this.budget.work(sizeOf(value));
    for (const value of named.values()) this.budget.work(sizeOf(value));
  }

  /** A filter; the innermost of a chain without a value gets `start`. */
  filtered(node: Expression, start: unknown, scope: Scope): unknown {
    if (node.type !== "filter") return this.value(node, scope);
    const value = node.of === null
      ? start
      : node.of.type === "filter"
      ? this.filtered(node.of, start, scope)
      : this.value(node.of, scope);
    return this.filter(node.name, value, this.given(node.given, scope));
  }

  filter(name: string, value: unknown, given: CallArguments): unknown {
    this.budget.work(sizeOf(value));
    this.#countGiven(given);
    const filter = Object.hasOwn(filters, name) ? filters[name] : undefined;
    if (filter !== undefined) {
      if (readsMarkup.has(name)) return filter(value, given, this);
      const result = filter(withoutMarkup(value), plainGiven(given), this);
      return value instanceof Markup ? filteredMarkup(name, result) : result;
    }
    throw new JinjaError("TemplateRuntimeError", `No filter named ${repr(name)} found.`);
  }

  test(name: string, value: unknown, given: CallArguments): boolean {
    this.budget.work(sizeOf(value));
    this.#countGiven(given);
    const test = Object.hasOwn(tests, name) ? tests[name] : undefined;
    if (test !== undefined) {
      return test(name === "escaped" ? value : withoutMarkup(value), plainGiven(given));
    }
    throw new JinjaError("TemplateRuntimeError", `No test named ${repr(name)} found.`);
  }
}

/** Filters that tell markup from other texts. */
const readsMarkup: ReadonlySet<string> = new Set(
  ["d", "default", "e", "escape", "format", "pprint", "truncate"],
);

function itemOf(of: unknown, key: unknown): unknown {
  const value = of instanceof ArgumentsText ? of.dict : of;
  // What cannot be a key is not there: jinja2 takes Python's TypeError for a key that is missing.
  if (value instanceof Map) return isHashable(key) ? value.get(keyOf(key)) : undefined;
  const at = typeof key === "bigint" || typeof key === "boolean" ? toIndex(BigInt(key)) : null;
  if (at === null) return undefined;
  if (typeof value === "string") return charAt(value, at);
  if (value instanceof Range) {
    const index = at < 0 ? at + value.length : at;
    return index >= 0 && index < value.length
      ? value.start + BigInt(index) * value.stride
      : undefined;
  }
  const list = Array.isArray(value) ? value : value instanceof Tuple ? value.items : null;
  return list?.at(at);
}

function missing(of: unknown, key: unknown): Undefined {
  const type = of === null ? "None" : of instanceof Dynamic ? of.name : `${typeName(of)} object`;
  return new Undefined(
    typeof key === "string"
      ? `${repr(type)} has no attribute ${repr(key)}`
      : `${type} has no element ${repr(key)}`,
  );
}
