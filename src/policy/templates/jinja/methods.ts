/** The methods of Python's values: what a template can call of each. */
import { Arguments } from "./arguments.ts";
import type { Budget } from "./budget.ts";
import { type Method, textMethods } from "./text_methods.ts";
import { formatText, type Reader } from "./format.ts";
import { methodGiven, methodResult, plainGiven } from "./markup.ts";
import { toText } from "./text.ts";
import {
  ArgumentsText,
  Callable,
  DictView,
  equals,
  JinjaError,
  keyOf,
  Markup,
  sizeOf,
  Tuple,
  typeName,
  Unsafe,
} from "./values.ts";

const unsafe: Readonly<Record<string, readonly string[]>> = {
  list: ["append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"],
  dict: ["clear", "pop", "popitem", "setdefault", "update"],
};

/** An attribute of a value of Python, or `undefined`. */
export function methodOf(value: unknown, name: string, budget: Budget, reader: Reader): unknown {
  if (name.startsWith("__")) return undefined;
  if (value instanceof Markup) {
    const method = methodOf(value.text, name, budget, reader);
    return method instanceof Callable
      ? new Callable(name, (given) => methodResult(method.call(methodGiven(name, given))))
      : method;
  }
  const self = value instanceof ArgumentsText ? value.text : value;
  // Text of a call's arguments that a template uses as a dict.
  const dict = value instanceof ArgumentsText && !Object.hasOwn(textMethods, name)
    ? value.dict
    : self;
  if (typeof self === "string" && dict === self) {
    if (name === "format" || name === "format_map") {
      return new Callable(name, (given) => {
        const named = name === "format" ? given.named : mapOf(given.args[0]);
        const args = name === "format" ? given.args : [];
        return formatText(self, { args, named }, { budget, reader });
      });
    }
    return bound(textMethods, self, name, budget);
  }
  if (dict instanceof Map) return guarded("dict", name) ?? bound(dictMethods, dict, name, budget);
  if (Array.isArray(self)) return guarded("list", name) ?? bound(listMethods, self, name, budget);
  if (self instanceof Tuple) {
    return name === "copy" ? undefined : bound(listMethods, self.items, name, budget);
  }
  if (typeof self === "number" && name === "is_integer") {
    return new Callable(name, () => Number.isInteger(self));
  }
  if (typeof self === "bigint" || typeof self === "boolean") {
    if (name === "real" || name === "numerator") return BigInt(self);
    if (name === "bit_length") {
      return new Callable(name, () => BigInt(BigInt(self).toString(2).length));
    }
  }
  return undefined;
}

function mapOf(value: unknown): ReadonlyMap<string, unknown> {
  if (value instanceof Map) return value;
  throw new JinjaError("TypeError", `'${typeName(value)}' object is not a mapping`);
}

function guarded(type: "list" | "dict", name: string): Unsafe | undefined {
  return unsafe[type]!.includes(name) ? new Unsafe(name, type) : undefined;
}

function bound<T>(
  methods: Readonly<Record<string, Method<T>>>,
  self: T,
  name: string,
  budget: Budget,
): Callable | undefined {
  const method = Object.hasOwn(methods, name) ? methods[name] : undefined;
  return method && new Callable(name, (given) => {
    budget.work(sizeOf(self));
    return method(self, plainGiven(given), budget);
  });
}

const listMethods: Readonly<Record<string, Method<readonly unknown[]>>> = {
  count(self, given, budget) {
    budget.work(self.length);
    const value = new Arguments("count", ["value"], given, 1).get("value");
    return BigInt(self.filter((item) => equals(item, value)).length);
  },
  index(self, given, budget) {
    budget.work(self.length);
    const value = new Arguments("index", ["value", "start", "stop"], given, 1).get("value");
    const at = self.findIndex((item) => equals(item, value));
    if (at >= 0) return BigInt(at);
    throw new JinjaError("ValueError", `${toText(value)} is not in list`);
  },
  copy: (self, _, budget) => (budget.work(self.length), [...self]),
};

const dictMethods: Readonly<Record<string, Method<Map<unknown, unknown>>>> = {
  get(self, given) {
    const args = new Arguments("get", ["key", "default"], given, 1);
    const key = keyOf(args.get("key"));
    return self.has(key) ? self.get(key) : args.get("default");
  },
  items: (self, _, budget) => (
    budget.work(self.size), new DictView("dict_items", [...self].map((pair) => new Tuple(pair)))
  ),
  keys: (self, _, budget) => (budget.work(self.size), new DictView("dict_keys", [...self.keys()])),
  values: (self, _, budget) => (
    budget.work(self.size), new DictView("dict_values", [...self.values()])
  ),
  copy: (self, _, budget) => (budget.work(self.size), new Map(self)),
};

/** The methods of a type that a template can call. */
export function methodNames(type: "str" | "list" | "dict"): readonly string[] {
  if (type === "str") return [...Object.keys(textMethods), "format"];
  return Object.keys(type === "list" ? listMethods : dictMethods);
}
