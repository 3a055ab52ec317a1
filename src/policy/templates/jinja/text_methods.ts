/** Methods of Python's strings. */
import { Arguments } from "./arguments.ts";
import type { Budget } from "./budget.ts";
import { capitalize, caseFold, lower, swapCase, title } from "./letter_case.ts";
import { withoutMarkup } from "./markup.ts";
import { codePoints, sliceText, strip, whiteSpace } from "./text.ts";
import { type CallArguments, iterate, JinjaError, textLength, Tuple, typeName } from "./values.ts";

/** A method of a value of Python. */
export type Method<T> = (self: T, given: CallArguments, budget: Budget) => unknown;

function isEvery(text: string, pattern: RegExp): boolean {
  return text !== "" && pattern.test(text);
}

function trimmed(ends: "both" | "left" | "right", name: string): Method<string> {
  return (self, given, budget) => {
    budget.work(self.length);
    return strip(self, new Arguments(name, ["chars"], given).textOrNone("chars"), ends);
  };
}

function affix(name: "startswith" | "endswith"): Method<string> {
  return (self, given) => {
    const args = new Arguments(name, ["prefix", "start", "end"], given, 1);
    const text = ranged(self, args);
    const prefix = args.get("prefix");
    const options = prefix instanceof Tuple ? prefix.items : [prefix];
    return options.some((option) => {
      if (typeof option !== "string") {
        throw new JinjaError(
          "TypeError",
          `${name} first arg must be str or a tuple of str, not ${typeName(option)}`,
        );
      }
      return name === "startswith" ? text.startsWith(option) : text.endsWith(option);
    });
  };
}

function ranged(self: string, args: Arguments): string {
  if (!args.has("start") && !args.has("end")) return self;
  const length = textLength(self);
  const at = (name: string, otherwise: number) => {
    if (args.get(name) === null) return otherwise;
    const index = args.integer(name);
    return Math.max(0, index < 0 ? index + length : index);
  };
  return sliceText(self, at("start", 0), at("end", length));
}

function found(name: string, isLast: boolean, isStrict: boolean): Method<string> {
  return (self, given, budget) => {
    budget.work(self.length);
    const args = new Arguments(name, ["sub", "start", "end"], given, 1);
    const sub = args.text("sub");
    const text = ranged(self, args);
    budget.search(text, sub);
    const at = isLast ? text.lastIndexOf(sub) : text.indexOf(sub);
    if (at < 0) {
      if (isStrict) throw new JinjaError("ValueError", "substring not found");
      return -1n;
    }
    const start = args.get("start") === null ? 0 : args.integer("start");
    const offset = start < 0 ? Math.max(0, start + textLength(self)) : start;
    return BigInt(textLength(text.slice(0, at)) + offset);
  };
}

function justified(name: string, align: "left" | "right" | "center"): Method<string> {
  return (self, given, budget) => {
    const args = new Arguments(name, ["width", "fillchar"], given, 1);
    const width = args.integer("width");
    budget.make(width);
    const fill = args.text("fillchar", " ");
    if (textLength(fill) !== 1) {
      throw new JinjaError("TypeError", "The fill character must be exactly one character long");
    }
    return justify(self, width, fill, align);
  };
}

/** A text filled up to a width, as `str.center()` and its like do. */
export function justify(
  text: string,
  width: number,
  fill: string,
  align: "left" | "right" | "center",
): string {
  const missing = width - textLength(text);
  if (missing <= 0) return text;
  if (align === "left") return text + fill.repeat(missing);
  if (align === "right") return fill.repeat(missing) + text;
  // Python puts the odd one to the left when the width is odd.
  const left = Math.floor(missing / 2) + (missing & width & 1);
  return fill.repeat(left) + text + fill.repeat(missing - left);
}

function split(name: "split" | "rsplit"): Method<string> {
  return (self, given, budget) => {
    budget.make(self.length);
    const args = new Arguments(name, ["sep", "maxsplit"], given);
    const most = args.integer("maxsplit", -1);
    const limit = most < 0 ? Infinity : most;
    const separator = args.textOrNone("sep");
    if (separator === "") throw new JinjaError("ValueError", "empty separator");
    if (separator === null) budget.each(self.length);
    if (separator === null) return splitSpace(self, limit, name === "rsplit");
    budget.search(self, separator);
    const parts = self.split(separator);
    if (parts.length - 1 <= limit) return parts;
    return name === "split" ? [...parts.slice(0, limit), parts.slice(limit).join(separator)] : [
      parts.slice(0, parts.length - limit).join(separator),
      ...parts.slice(parts.length - limit),
    ];
  };
}

function splitSpace(text: string, limit: number, fromRight: boolean): string[] {
  const words: { start: number; end: number }[] = [];
  let start = -1;
  for (let i = 0; i <= text.length; i++) {
    const isSpace = i === text.length || whiteSpace.has(text[i]!);
    if (!isSpace && start < 0) start = i;
    if (isSpace && start >= 0) {
      words.push({ start, end: i });
      start = -1;
    }
  }
  const parts = words.map(({ start, end }) => text.slice(start, end));
  if (words.length <= limit) return parts;
  // The rest keeps the white space at its end.
  if (!fromRight) return [...parts.slice(0, limit), text.slice(words[limit]!.start)];
  const cut = words.length - limit;
  return [text.slice(0, words[cut - 1]!.end), ...parts.slice(cut)];
}

function partition(name: "partition" | "rpartition"): Method<string> {
  return (self, given, budget) => {
    budget.work(self.length);
    const separator = new Arguments(name, ["sep"], given, 1).text("sep");
    if (separator === "") throw new JinjaError("ValueError", "empty separator");
    budget.search(self, separator);
    const at = name === "partition" ? self.indexOf(separator) : self.lastIndexOf(separator);
    if (at < 0) return new Tuple(name === "partition" ? [self, "", ""] : ["", "", self]);
    return new Tuple([self.slice(0, at), separator, self.slice(at + separator.length)]);
  };
}

/** `text.replace(old, with, count)`. */
export function replace(
  text: string,
  old: string,
  by: string,
  count: number,
  budget: Budget,
): string {
  budget.work(text.length);
  const limit = count < 0 ? Infinity : count;
  if (old === "") budget.each(text.length);
  else budget.search(text, old);
  const parts = old === "" ? ["", ...Array.from(text), ""] : text.split(old);
  const times = Math.min(parts.length - 1, limit);
  budget.make(text.length + times * by.length);
  if (times === parts.length - 1) return parts.join(by);
  return parts.slice(0, times + 1).join(by) + old + parts.slice(times + 1).join(old);
}

// deno-lint-ignore no-control-regex
const lines = /\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]/g;

/** `text.splitlines(keepends)`. */
export function splitLines(text: string, keepEnds = false): string[] {
  const result: string[] = [];
  let at = 0;
  for (const end of text.matchAll(lines)) {
    result.push(text.slice(at, keepEnds ? end.index + end[0].length : end.index));
    at = end.index + end[0].length;
  }
  if (at < text.length) result.push(text.slice(at));
  return result;
}

/** Decimal digits, and others that are digits to Python. */
const digits =
  /^[\p{Nd}²³¹⁰⁴-⁹₀-₉\u1369-\u1371\u19da\u2460-\u2468\u2474-\u247c\u2488-\u2490\u24ea\u24f5-\u24fd\u24ff\u2776-\u277e\u2780-\u2788\u278a-\u2792\u{10a40}-\u{10a43}\u{10e60}-\u{10e68}\u{11052}-\u{1105a}\u{1f100}-\u{1f10a}]+$/u;

/** The methods by name. */
export const textMethods: Readonly<Record<string, Method<string>>> = {
  strip: trimmed("both", "strip"),
  lstrip: trimmed("left", "lstrip"),
  rstrip: trimmed("right", "rstrip"),
  startswith: affix("startswith"),
  endswith: affix("endswith"),
  find: found("find", false, false),
  rfind: found("rfind", true, false),
  index: found("index", false, true),
  rindex: found("rindex", true, true),
  center: justified("center", "center"),
  ljust: justified("ljust", "left"),
  rjust: justified("rjust", "right"),
  split: split("split"),
  rsplit: split("rsplit"),
  partition: partition("partition"),
  rpartition: partition("rpartition"),
  upper: (self, _, budget) => (budget.work(self.length), self.toUpperCase()),
  lower: (self, _, budget) => (budget.work(self.length), lower(self)),
  casefold: (self, _, budget) => (budget.each(self.length), caseFold(self)),
  capitalize: (self, _, budget) => (budget.each(self.length), capitalize(self)),
  title: (self, _, budget) => (budget.each(self.length), title(self)),
  swapcase: (self, _, budget) => (budget.each(self.length), swapCase(self)),
  replace(self, given, budget) {
    const args = new Arguments("replace", ["old", "new", "count"], given, 2);
    return replace(self, args.text("old"), args.text("new"), args.integer("count", -1), budget);
  },
  removeprefix(self, given) {
    const prefix = new Arguments("removeprefix", ["prefix"], given, 1).text("prefix");
    return self.startsWith(prefix) ? self.slice(prefix.length) : self;
  },
  removesuffix(self, given) {
    const suffix = new Arguments("removesuffix", ["suffix"], given, 1).text("suffix");
    return suffix !== "" && self.endsWith(suffix) ? self.slice(0, -suffix.length) : self;
  },
  count(self, given, budget) {
    budget.work(self.length);
    const args = new Arguments("count", ["sub", "start", "end"], given, 1);
    const text = ranged(self, args);
    const sub = args.text("sub");
    budget.search(text, sub);
    return BigInt(sub === "" ? textLength(text) + 1 : text.split(sub).length - 1);
  },
  join(self, given, budget) {
    const items = iterate(new Arguments("join", ["iterable"], given, 1).get("iterable"))
      .map(withoutMarkup);
    let size = 0;
    items.forEach((item, index) => {
      if (typeof item !== "string") {
        throw new JinjaError(
          "TypeError",
          `sequence item ${index}: expected str instance, ${typeName(item)} found`,
        );
      }
      size += item.length + self.length;
      budget.make(size);
    });
    return items.join(self);
  },
  splitlines(self, given, budget) {
    budget.each(self.length);
    return splitLines(
      self,
      new Arguments("splitlines", ["keepends"], given).get("keepends") === true,
    );
  },
  zfill(self, given, budget) {
    const width = new Arguments("zfill", ["width"], given, 1).integer("width");
    budget.make(width);
    const sign = /^[+-]/.exec(self)?.[0] ?? "";
    return sign + justify(self.slice(sign.length), width - sign.length, "0", "right");
  },
  expandtabs(self, given, budget) {
    const size = new Arguments("expandtabs", ["tabsize"], given).integer("tabsize", 8);
    budget.make(self.length * Math.max(1, size));
    budget.each(self.length);
    let column = 0;
    let result = "";
    for (const char of self) {
      if (char === "\t") {
        const width = size > 0 ? size - column % size : 0;
        result += " ".repeat(width);
        column += width;
      } else {
        result += char;
        column = char === "\n" || char === "\r" ? 0 : column + 1;
      }
    }
    return result;
  },
  isalnum: (self) => isEvery(self, /^[\p{L}\p{N}]+$/u),
  isalpha: (self) => isEvery(self, /^\p{L}+$/u),
  // deno-lint-ignore no-control-regex
  isascii: (self) => !/[^\x00-\x7f]/.test(self),
  isdecimal: (self) => isEvery(self, /^\p{Nd}+$/u),
  isdigit: (self) => isEvery(self, digits),
  isnumeric: (self) => isEvery(self, /^\p{N}+$/u),
  isidentifier: (self) => isEvery(self, /^[\p{ID_Start}_][\p{ID_Continue}]*$/u),
  islower: (self) => /\p{Lowercase}/u.test(self) && !/[\p{Uppercase}\p{Lt}]/u.test(self),
  isupper: (self) => /\p{Uppercase}/u.test(self) && !/[\p{Lowercase}\p{Lt}]/u.test(self),
  isspace: (
    self,
    _,
    budget,
  ) => (budget.each(self.length), self !== "" && [...self].every((char) => whiteSpace.has(char))),
  istitle: (self, _, budget) => (
    budget.each(self.length), /[\p{Uppercase}\p{Lt}]/u.test(self) && self === title(self)
  ),
  isprintable: (self) =>
    !/[\p{C}\p{Zl}\p{Zp}\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]/u.test(self),
};

/** A character of a text at an index of Python, or `undefined`. */
export function charAt(text: string, index: number): string | undefined {
  const points = codePoints(text);
  return points[index < 0 ? index + points.length : index];
}
