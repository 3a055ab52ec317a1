/**
 * Python's values in TypeScript: `str` is a string, `int` a bigint, `float` a number, `None` null,
 * `list` an array, `dict` a Map; the rest are the classes here.
 */

import { budgetAtHand } from "./budget.ts";

/** An error that Python or the template would raise. */
export class JinjaError extends Error {
  /** Makes the error; `kind` is the name of Python's class. */
  constructor(readonly kind: string, message: string) {
    super(message);
  }
}

/** What a name or key that is not there evaluates to. */
export class Undefined {
  /** Makes it; `hint` is the error of using it. */
  constructor(readonly hint: string) {}

  /** The error of using it. */
  fail(): never {
    throw new JinjaError("UndefinedError", this.hint);
  }
}

/** A tuple. */
export class Tuple {
  /** Makes it of its entries. */
  constructor(readonly items: readonly unknown[]) {}
}

/** What `dict.items()`, `.keys()` and `.values()` give. */
export class DictView {
  /** Makes it; `name` is its type. */
  constructor(
    readonly name: "dict_items" | "dict_keys" | "dict_values",
    readonly items: unknown[],
  ) {}
}

/** A generator or another iterator: it can be read once. */
export class OneTime {
  #items: unknown[];
  #at = 0;
  /** Makes it; `name` is its type. */
  constructor(items: unknown[], readonly name = "generator") {
    this.#items = items;
  }

  /** The entries that are left; afterwards there are none. */
  take(): unknown[] {
    const items = this.#at === 0 ? this.#items : this.#items.slice(this.#at);
    this.#items = [];
    this.#at = 0;
    return items;
  }

  /** The next entry. */
  next(): { value: unknown } | null {
    // Not shift(): that moves all the others.
    return this.#at >= this.#items.length ? null : { value: this.#items[this.#at++] };
  }
}

/** `range(...)`, counted when read. */
export class Range {
  /** Makes it. */
  constructor(readonly start: bigint, readonly stop: bigint, readonly stride: bigint) {}

  /** How many numbers it has. */
  get length(): number {
    const { start, stop, stride } = this;
    const span = stride > 0n ? stop - start : start - stop;
    const by = stride > 0n ? stride : -stride;
    return span <= 0n ? 0 : Number((span + by - 1n) / by);
  }

  /** Its numbers. */
  toArray(): bigint[] {
    return Array.from({ length: this.length }, (_, i) => this.start + BigInt(i) * this.stride);
  }
}

/** `namespace(...)`: the one thing whose attributes a template may set. */
export class Namespace {
  /** Its attributes. */
  readonly values = new Map<unknown, unknown>();
}

/** Arguments of a call as a template's function sees them. */
export interface CallArguments {
  /** By position. */
  readonly args: readonly unknown[];
  /** By name. */
  readonly named: ReadonlyMap<string, unknown>;
}

/** Something that a template can call. */
export class Callable {
  /** Makes it. */
  constructor(
    readonly name: string,
    readonly call: (given: CallArguments) => unknown,
    /** What a macro tells of itself. */
    readonly attributes: ReadonlyMap<string, unknown> = new Map(),
  ) {}
}

/** A method that changes its object: the sandbox lets nobody call it. */
export class Unsafe {
  /** Makes it. */
  constructor(readonly attribute: string, readonly type: string) {}

  /** The error of calling it. */
  fail(): never {
    throw new JinjaError(
      "SecurityError",
      `access to attribute '${this.attribute}' of '${this.type}' object is unsafe.`,
    );
  }
}

/**
 * A number of JSON as Python reads it: `1.0` is a float and prints as `1.0`, which a JavaScript
 * number cannot tell from 1. `parseJson()` makes them.
 */
export class PythonFloat {
  /** Makes it of its value. */
  constructor(
    /** The value. */
    readonly value: number,
  ) {}

  /** The number, for JavaScript's own arithmetic. */
  valueOf(): number {
    return this.value;
  }

  /** The number, for JSON.stringify. */
  toJSON(): unknown {
    const { rawJSON } = JSON as { rawJSON?: (text: string) => unknown };
    const isWhole = Number.isInteger(this.value) && Math.abs(this.value) < 1e16;
    return isWhole && rawJSON !== undefined ? rawJSON(`${this.value}.0`) : this.value;
  }
}

/** Arguments of a call, given as a dict: a template that puts them behind a text gets their JSON. */
export class ArgumentsDict extends Map<unknown, unknown> {
  /** Makes it of a dict. */
  constructor(dict: ReadonlyMap<unknown, unknown>, readonly toJsonText: () => string) {
    super(dict);
  }
}

/** Arguments of a call, given as JSON: a template that wants a dict gets the dict. */
export class ArgumentsText {
  /** Makes it of both forms. */
  constructor(readonly text: string, readonly dict: Map<unknown, unknown>) {}
}

/** A text that `safe` or `escape` made. */
export class Markup {
  /** Makes it of its text. */
  constructor(readonly text: string) {}
}

/** A value of JavaScript as Python would have it. */
export function fromJs(value: unknown): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
    case "bigint":
      return value;
    case "number":
      return Number.isSafeInteger(value) && !Object.is(value, -0) ? BigInt(value) : value;
    case "object":
      return value === null ? null : objectFromJs(value);
    case "undefined":
      return null;
    default:
      throw new JinjaError("TypeError", `A template cannot use a ${typeof value}`);
  }
}

function objectFromJs(value: object): unknown {
  if (value instanceof PythonFloat) return value.value;
  if (value instanceof ArgumentsText || value instanceof ArgumentsDict) return value;
  if (Array.isArray(value)) return value.map(fromJs);
  if (value instanceof Map) {
    return new Map([...value].map(([key, entry]) => [fromJs(key), fromJs(entry)]));
  }
  const dict = new Map<unknown, unknown>();
  for (const [key, entry] of Object.entries(value)) {
    if (entry !== undefined) dict.set(key, fromJs(entry));
  }
  return dict;
}

/** Python's name of a value's type. */
export function typeName(value: unknown): string {
  if (value === null) return "NoneType";
  if (typeof value === "string") return "str";
  if (typeof value === "bigint") return "int";
  if (typeof value === "number") return "float";
  if (typeof value === "boolean") return "bool";
  if (Array.isArray(value)) return "list";
  if (value instanceof Map) return "dict";
  if (value instanceof Tuple) return "tuple";
  if (value instanceof DictView || value instanceof OneTime) return value.name;
  if (value instanceof Range) return "range";
  if (value instanceof Namespace) return "Namespace";
  if (value instanceof Undefined) return "Undefined";
  if (value instanceof ArgumentsText) return "str";
  if (value instanceof Markup) return "Markup";
  return value instanceof Callable ? "function" : "object";
}

/** Whether Python takes the value for true. */
export function isTrue(value: unknown): boolean {
  if (value === null || value instanceof Undefined) return false;
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      return value !== "";
    case "bigint":
      return value !== 0n;
    case "number":
      return value !== 0;
  }
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map) return value.size > 0;
  if (value instanceof Tuple || value instanceof DictView) return value.items.length > 0;
  if (value instanceof Range) return value.length > 0;
  if (value instanceof Markup) return value.text !== "";
  return true;
}

/** Whether it is an int or a float, or a bool. */
export function isNumber(value: unknown): boolean {
  return asNumber(value) !== null;
}

/** A bool or int as an int, a float as it is, else `null`. */
export function asNumber(value: unknown): bigint | number | null {
  if (typeof value === "boolean") return value ? 1n : 0n;
  return typeof value === "bigint" || typeof value === "number" ? value : null;
}

/** Python's `==`. */
export function equals(a: unknown, b: unknown): boolean {
  budgetAtHand()?.work(sharedSize(a, b));
  if (a === b) return true;
  const x = asNumber(a);
  const y = asNumber(b);
  // Across int and float JavaScript compares exactly, as Python does.
  if (x !== null && y !== null) return x == y;
  if (a instanceof ArgumentsText) return equals(a.text, b);
  if (b instanceof ArgumentsText) return equals(a, b.text);
  if (a instanceof Markup) return equals(a.text, b);
  if (b instanceof Markup) return equals(a, b.text);
  if (Array.isArray(a) && Array.isArray(b)) return sameItems(a, b);
  if (a instanceof Tuple && b instanceof Tuple) return sameItems(a.items, b.items);
  if (a instanceof Map && b instanceof Map) {
    if (a.size !== b.size) return false;
    for (const [key, value] of a) if (!b.has(key) || !equals(value, b.get(key))) return false;
    return true;
  }
  if (a instanceof Range && b instanceof Range) {
    return a.length === b.length && sameItems(a.toArray(), b.toArray());
  }
  return a instanceof Undefined && b instanceof Undefined;
}

/** Characters, or numbers of a range, that a comparison may have to look at by itself. */
function sharedSize(a: unknown, b: unknown): number {
  if (typeof a === "string" && typeof b === "string") return Math.min(a.length, b.length);
  return a instanceof Range && b instanceof Range ? Math.min(a.length, b.length) * 16 : 0;
}

function sameItems(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((item, index) => equals(item, b[index]));
}

/** Python's order of two values: negative, 0 or positive. */
export function compare(a: unknown, b: unknown, sign = "<"): number {
  budgetAtHand()?.work(sharedSize(a, b));
  const x = asNumber(a);
  const y = asNumber(b);
  if (x !== null && y !== null) return x < y ? -1 : x > y ? 1 : x == y ? 0 : NaN;
  if (typeof a === "string" && typeof b === "string") return compareText(a, b);
  if (a instanceof Markup) return compare(a.text, b, sign);
  if (b instanceof Markup) return compare(a, b.text, sign);
  const left = Array.isArray(a) && Array.isArray(b) ? a : a instanceof Tuple ? a.items : null;
  const right = Array.isArray(b) ? b : b instanceof Tuple ? b.items : null;
  if (left !== null && right !== null && Array.isArray(a) === Array.isArray(b)) {
    for (let i = 0; i < Math.min(left.length, right.length); i++) {
      if (!equals(left[i], right[i])) return compare(left[i], right[i], sign);
    }
    return left.length - right.length;
  }
  for (const value of [a, b]) if (value instanceof Undefined) value.fail();
  throw new JinjaError(
    "TypeError",
    `'${sign}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`,
  );
}

/** By code points, not by UTF-16 units. */
function compareText(a: string, b: string): number {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    const isHigh = (unit: number) => unit >= 0xd800 && unit <= 0xdfff;
    if (isHigh(x) !== isHigh(y)) return isHigh(x) ? 1 : -1;
    return x - y;
  }
  return a.length - b.length;
}

/** Whether Python lets a value be the key of a dict. */
export function isHashable(value: unknown): boolean {
  return !Array.isArray(value) && !(value instanceof Map);
}

/** The key of a dict, or Python's error for one that cannot be a key. */
export function keyOf(value: unknown): unknown {
  if (!isHashable(value)) {
    throw new JinjaError("TypeError", `unhashable type: '${typeName(value)}'`);
  }
  if (value instanceof ArgumentsText || value instanceof Markup) return value.text;
  const isWhole = typeof value === "boolean" ||
    typeof value === "number" && Number.isInteger(value);
  return isWhole ? BigInt(value) : value;
}

/** The entries of a value that can be looped over. */
export function iterate(value: unknown): readonly unknown[] {
  if (typeof value === "string") budgetAtHand()?.each(value.length);
  else budgetAtHand()?.work(sizeOf(value));
  if (Array.isArray(value)) return value;
  if (typeof value === "string") return Array.from(value);
  if (value instanceof Markup) return iterate(value.text);
  if (value instanceof Map) return [...value.keys()];
  if (value instanceof Tuple || value instanceof DictView) return value.items;
  if (value instanceof OneTime) return value.take();
  if (value instanceof Range) return value.toArray();
  if (value instanceof Undefined) return [];
  if (value instanceof ArgumentsText) return [...value.dict.keys()];
  throw new JinjaError("TypeError", `'${typeName(value)}' object is not iterable`);
}

/** Python's `len()`. */
export function lengthOf(value: unknown): number {
  if (typeof value === "string") return textLength(value);
  if (Array.isArray(value) || value instanceof Range) return value.length;
  if (value instanceof Map) return value.size;
  if (value instanceof Tuple || value instanceof DictView) return value.items.length;
  if (value instanceof Undefined) return 0;
  if (value instanceof ArgumentsText || value instanceof Markup) return textLength(value.text);
  throw new JinjaError("TypeError", `object of type '${typeName(value)}' has no len()`);
}

/** Characters or entries of a value, without those of its entries. */
export function sizeOf(value: unknown): number {
  if (typeof value === "string" || Array.isArray(value)) return value.length;
  if (value instanceof Map) return value.size;
  if (value instanceof Tuple || value instanceof DictView) return value.items.length;
  if (value instanceof ArgumentsText || value instanceof Markup) return value.text.length;
  return value instanceof Range ? value.length : 1;
}

/** Code points of a text. */
export function textLength(text: string): number {
  budgetAtHand()?.work(text.length);
  if (!/[\ud800-\udbff]/.test(text)) return text.length;
  budgetAtHand()?.each(text.length);
  let length = 0;
  for (const _ of text) length++;
  return length;
}

/** An int as a JavaScript number; larger ones stop at the largest index. */
export function toIndex(value: bigint): number {
  const top = BigInt(Number.MAX_SAFE_INTEGER);
  return Number(value > top ? top : value < -top ? -top : value);
}
