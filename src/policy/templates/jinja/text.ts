/** Python's `str()` and `repr()`, and its idea of white space. */
import { budgetAtHand } from "./budget.ts";
import {
  ArgumentsText,
  Callable,
  DictView,
  JinjaError,
  Markup,
  Namespace,
  OneTime,
  Range,
  Tuple,
  typeName,
  Undefined,
} from "./values.ts";

/** Characters that Python's `str.isspace()` knows, which are not JavaScript's. */
export const whiteSpace: ReadonlySet<string> = new Set(
  [
    ...[0x9, 0xa, 0xb, 0xc, 0xd, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x85, 0xa0, 0x1680],
    ...[0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200a],
    ...[0x2028, 0x2029, 0x202f, 0x205f, 0x3000],
  ].map((code) => String.fromCharCode(code)),
);

/** Python's `str(value)`. */
export function toText(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Undefined) return "";
  if (value instanceof ArgumentsText || value instanceof Markup) return value.text;
  return repr(value);
}

/** Python's `repr(value)`. */
export function repr(value: unknown): string {
  // Printing an entry takes as long as some ten expressions.
  budgetAtHand()?.each(9);
  if (value === null) return "None";
  switch (typeof value) {
    case "string":
      return textRepr(value);
    case "boolean":
      return value ? "True" : "False";
    case "bigint":
      return integerText(value);
    case "number":
      return floatRepr(value);
  }
  if (Array.isArray(value)) return `[${listed(value)}]`;
  if (value instanceof Tuple) {
    return value.items.length === 1 ? `(${repr(value.items[0])},)` : `(${listed(value.items)})`;
  }
  if (value instanceof Map) return `{${pairs(value)}}`;
  if (value instanceof DictView) return `${value.name}([${listed(value.items)}])`;
  if (value instanceof Range) {
    const stride = value.stride === 1n ? "" : `, ${value.stride}`;
    return `range(${value.start}, ${value.stop}${stride})`;
  }
  if (value instanceof Namespace) return `<Namespace {${pairs(value.values)}}>`;
  if (value instanceof Undefined) return "Undefined";
  if (value instanceof ArgumentsText) return repr(value.text);
  if (value instanceof Markup) return `Markup(${repr(value.text)})`;
  if (value instanceof Callable) return `<function ${value.name}>`;
  if (value instanceof OneTime) return `<${value.name} object>`;
  return `<${typeName(value)}>`;
}

function pairs(map: ReadonlyMap<unknown, unknown>): string {
  return listed([...map], ([key, entry]) => `${repr(key)}: ${repr(entry)}`);
}

/** Entries with commas; what they come to is counted while they are made. */
function listed<T>(items: readonly T[], write: (item: T) => string = repr): string {
  const budget = budgetAtHand();
  let size = 0;
  return items.map((item) => {
    const part = write(item);
    size += part.length + 2;
    budget?.make(part.length);
    budget?.fits(size);
    return part;
  }).join(", ");
}

/** Replaces matches; what comes of it is counted while it is made. */
export function replaceCounted(
  text: string,
  pattern: RegExp,
  write: (match: string) => string,
): string {
  const budget = budgetAtHand();
  budget?.make(text.length);
  let size = text.length;
  return text.replace(pattern, (match) => {
    const by = write(match);
    size += by.length - match.length;
    budget?.step();
    budget?.fits(size);
    return by;
  });
}

const tooLong = 10n ** 4300n;

/** An int as text; Python refuses more than 4300 digits. */
export function integerText(value: bigint): string {
  if (value < tooLong && value > -tooLong) return String(value);
  throw new JinjaError(
    "ValueError",
    "Exceeds the limit (4300 digits) for integer string conversion",
  );
}

/** A float as the shortest text that gives it back, as Python writes it. */
export function floatRepr(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Object.is(value, -0)) return "-0.0";
  const [mantissa = "", power = ""] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  const text = positional(mantissa, exponent);
  return text.includes(".") ? text : `${text}.0`;
}

/** A decimal mantissa and its exponent as digits with a point. */
function positional(mantissa: string, exponent: number): string {
  const sign = mantissa.startsWith("-") ? "-" : "";
  const digits = mantissa.replace("-", "").replace(".", "");
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  const rest = digits.slice(exponent + 1);
  return sign + whole + (rest === "" ? "" : `.${rest}`);
}

const named: Readonly<Record<string, string>> = {
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\\": "\\\\",
};

function textRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inner = replaceCounted(text, /[\\'"\p{C}\p{Z}]/gu, (char) => {
    if (char === " " || char === '"' && quote === "'") return char;
    if (char === "'" || char === '"') return char === quote ? `\\${char}` : char;
    if (char in named) return named[char]!;
    return escaped(char.codePointAt(0)!);
  });
  return quote + inner + quote;
}

function escaped(code: number): string {
  const hex = code.toString(16);
  if (code < 0x100) return `\\x${hex.padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}

/** Python's `ascii(value)`. */
export function ascii(value: unknown): string {
  // deno-lint-ignore no-control-regex
  return replaceCounted(repr(value), /[^\x00-\x7f]/gu, (char) => escaped(char.codePointAt(0)!));
}

/** A text without some characters at its ends. `null` stands for white space. */
export function strip(text: string, chars: string | null, ends: "both" | "left" | "right"): string {
  budgetAtHand()?.work(text.length);
  if (chars !== null) budgetAtHand()?.each(chars.length);
  const set = chars === null ? whiteSpace : new Set(chars);
  let start = 0;
  let end = text.length;
  if (ends !== "right") {
    while (start < end) {
      const char = String.fromCodePoint(text.codePointAt(start)!);
      if (!set.has(char)) break;
      start += char.length;
    }
  }
  if (ends !== "left") {
    while (end > start) {
      const isPair = end - 2 >= start && (text.codePointAt(end - 2) ?? 0) > 0xffff;
      const char = text.slice(isPair ? end - 2 : end - 1, end);
      if (!set.has(char)) break;
      end -= char.length;
    }
  }
  return text.slice(start, end);
}

/** The code points of a text; a text without pairs is its own list. */
export function codePoints(text: string): string | readonly string[] {
  budgetAtHand()?.work(text.length);
  if (!/[\ud800-\udbff]/.test(text)) return text;
  budgetAtHand()?.each(text.length);
  return Array.from(text);
}

/** Code points from `start` to `end`. */
export function sliceText(text: string, start: number, end: number): string {
  const points = codePoints(text);
  return typeof points === "string" ? points.slice(start, end) : points.slice(start, end).join("");
}

/** A text cut at the white space of Python's regular expressions, which `split()` cuts at too. */
export function words(text: string): string[] {
  const found: string[] = [];
  let word = "";
  for (const char of text) {
    if (!whiteSpace.has(char)) word += char;
    else if (word !== "") {
      found.push(word);
      word = "";
    }
  }
  return word === "" ? found : [...found, word];
}
