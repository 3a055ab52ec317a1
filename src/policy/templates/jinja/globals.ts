/** Functions that every template has, as transformers gives them. */
import { Arguments } from "./arguments.ts";
import type { Budget } from "./budget.ts";
import { strftime } from "./strftime.ts";
import { repr, toText } from "./text.ts";
import {
  Callable,
  type CallArguments,
  iterate,
  JinjaError,
  keyOf,
  lengthOf,
  Namespace,
  Range,
  sizeOf,
  Tuple,
  typeName,
} from "./values.ts";

/** Numbers of a `range()`, as in jinja2's sandbox. */
const maxRange = 100_000;

/** A value whose attributes are made when they are read. */
export class Dynamic {
  /** Makes it. */
  constructor(
    readonly name: string,
    readonly read: (attribute: string) => unknown,
    readonly call?: (given: CallArguments) => unknown,
  ) {}
}

/** The functions by name. */
export function makeGlobals(
  { budget, now }: { budget: Budget; now: () => Date },
): Map<string, unknown> {
  const functions: Readonly<Record<string, (given: CallArguments) => unknown>> = {
    range: ({ args }) => {
      const [start = 0n, stop, stride = 1n] = args.length === 1
        ? [0n, integer(args[0])]
        : args.map(integer);
      if (stop === undefined) {
        throw new JinjaError("TypeError", "range expected at least 1 argument");
      }
      if (stride === 0n) throw new JinjaError("ValueError", "range() arg 3 must not be zero");
      const range = new Range(start, stop, stride);
      if (range.length <= maxRange) return range;
      throw new JinjaError(
        "OverflowError",
        `Range too big. The sandbox blocks ranges larger than MAX_RANGE (${maxRange}).`,
      );
    },
    dict: (given) => dictOf(given, budget),
    namespace(given) {
      const space = new Namespace();
      for (const [key, value] of dictOf(given, budget)) {
        checkAttribute(key);
        space.values.set(key, value);
      }
      return space;
    },
    raise_exception({ args }) {
      throw new JinjaError("TemplateError", toText(args[0] ?? ""));
    },
    strftime_now(given) {
      const format = new Arguments("strftime_now", ["format"], given, 1).text("format");
      // Two characters of a format become up to 24.
      budget.make(format.length * 12);
      budget.each(format.length);
      return strftime(now(), format);
    },
    joiner(given) {
      const separator = new Arguments("joiner", ["sep"], given).get("sep", ", ");
      let isFirst = true;
      return new Callable("joiner", () => {
        const text = isFirst ? "" : separator;
        isFirst = false;
        return text;
      });
    },
    cycler({ args }) {
      if (args.length === 0) {
        throw new JinjaError("TypeError", "at least one item has to be provided");
      }
      let at = 0;
      return new Dynamic("Cycler", (name) => {
        if (name === "current") return args[at];
        if (name === "reset") return new Callable(name, () => (at = 0, null));
        if (name !== "next" && name !== "__next__") return undefined;
        return new Callable(name, () => {
          const item = args[at];
          at = (at + 1) % args.length;
          return item;
        });
      });
    },
  };
  return new Map(
    Object.entries(functions).map(([name, call]) => [name, new Callable(name, call)]),
  );
}

/** Refuses names that transformers refuses on a namespace. */
export function checkAttribute(name: unknown): void {
  if (typeof name !== "string" || !name.startsWith("_")) return;
  throw new JinjaError(
    "SecurityError",
    "Chat templates cannot store underscore-prefixed attributes on a namespace, but got " +
      `${repr(name)}. Please rename the attribute.`,
  );
}

function integer(value: unknown): bigint {
  if (typeof value === "bigint") return value;
  if (typeof value === "boolean") return BigInt(value);
  throw new JinjaError(
    "TypeError",
    `'${typeName(value)}' object cannot be interpreted as an integer`,
  );
}

function dictOf({ args, named }: CallArguments, budget: Budget): Map<unknown, unknown> {
  const dict = new Map<unknown, unknown>();
  const [first] = args;
  budget.work(sizeOf(first) + named.size);
  if (first instanceof Map) {
    for (const [key, value] of first) dict.set(key, value);
  } else if (first !== undefined) {
    for (const pair of iterate(first)) {
      if (lengthOf(pair) !== 2) {
        throw new JinjaError("ValueError", "dictionary update sequence element has not length 2");
      }
      const [key, value] = pair instanceof Tuple ? pair.items : iterate(pair);
      dict.set(keyOf(key), value);
    }
  }
  for (const [key, value] of named) dict.set(key, value);
  return dict;
}
