/** Python's `%` and `str.format()`. */
import type { Budget } from "./budget.ts";
import { exponential, fixed, general } from "./decimals.ts";
import { ascii, floatRepr, integerText, repr, sliceText, toText } from "./text.ts";
import { asNumber, JinjaError, Range, textLength, Tuple, typeName, Undefined } from "./values.ts";

/** Digits of a float that may be asked for. */
const maxPrecision = 1000;

/** `template % values`. */
export function percent(template: string, values: unknown, budget: Budget): string {
  const list = values instanceof Tuple ? values.items : [values];
  const dict = values instanceof Map ? values : null;
  let next = 0;
  let size = 0;
  const take = (): unknown => {
    if (next < list.length) return list[next++];
    throw new JinjaError("TypeError", "not enough arguments for format string");
  };
  budget.each(template.length);
  // A key that never ends goes to the end at once: looking for its end from each "%(" is quadratic.
  const pattern = /%(?:\(([^)]*)(?:\)|$))?([-+ #0]*)(\*|\d+)?(?:\.(\*|\d+)?)?[hlL]?([^])?/g;
  const text = template.replace(pattern, (whole, key, flags, width, precision, kind) => {
    if (kind === "%") return "%";
    if (kind === undefined) throw new JinjaError("ValueError", "incomplete format");
    const wide = width === "*" ? Number(take()) : Number(width ?? 0);
    const hasPrecision = /\.(?:\*|\d*)[hlL]?.$/s.test(whole) && whole.includes(".");
    const exact = !hasPrecision
      ? null
      : precision === "*"
      ? Number(take())
      : Number(precision ?? 0);
    const value = key === undefined ? take() : fromDict(dict, key);
    const spec: Spec = {
      fill: flags.includes("0") && !flags.includes("-") ? "0" : " ",
      align: flags.includes("-") || wide < 0 ? "<" : flags.includes("0") ? "=" : ">",
      sign: flags.includes("+") ? "+" : flags.includes(" ") ? " " : "-",
      isAlternate: flags.includes("#"),
      width: Math.abs(wide),
      grouping: "",
      precision: exact,
      kind,
    };
    const one = percentOne(value, spec, budget);
    budget.make(one.length);
    budget.fits(size += one.length);
    return one;
  });
  const canBeUnused = !(values instanceof Tuple) &&
    (dict !== null || Array.isArray(values) || values instanceof Range ||
      values instanceof Undefined);
  if (!canBeUnused && next < list.length) {
    throw new JinjaError("TypeError", "not all arguments converted during string formatting");
  }
  return text;
}

function fromDict(dict: ReadonlyMap<unknown, unknown> | null, key: string): unknown {
  if (dict === null) throw new JinjaError("TypeError", "format requires a mapping");
  if (!dict.has(key)) throw new JinjaError("KeyError", repr(key));
  return dict.get(key);
}

interface Spec {
  readonly fill: string;
  readonly align: string;
  readonly sign: string;
  readonly isAlternate: boolean;
  readonly width: number;
  readonly grouping: string;
  readonly precision: number | null;
  readonly kind: string;
}

function percentOne(value: unknown, spec: Spec, budget: Budget): string {
  const { kind, precision } = spec;
  budget.make(Math.max(spec.width, precision ?? 0));
  if ("sra".includes(kind)) {
    const text = kind === "s" ? toText(value) : kind === "r" ? repr(value) : ascii(value);
    const cut = precision === null ? text : sliceText(text, 0, precision);
    return pad(cut, { ...spec, fill: " ", align: spec.align === "=" ? ">" : spec.align });
  }
  if (kind === "c") {
    const text = typeof value === "bigint" ? String.fromCodePoint(Number(value)) : toText(value);
    return pad(text, { ...spec, fill: " ", align: spec.align === "=" ? ">" : spec.align });
  }
  const number = asNumber(value);
  if (!"diouxXeEfFgG".includes(kind)) {
    throw new JinjaError("ValueError", `unsupported format character '${kind}'`);
  }
  if (number === null) {
    if (value instanceof Undefined) value.fail();
    const wanted = "diu".includes(kind) ? "a real number is required" : "must be real number";
    throw new JinjaError("TypeError", `%${kind} format: ${wanted}, not ${typeName(value)}`);
  }
  if ("diu".includes(kind)) {
    return signed(
      padDigits(BigInt(typeof number === "number" ? Math.trunc(number) : number), spec),
      spec,
    );
  }
  if ("oxX".includes(kind)) {
    if (typeof number === "number") {
      throw new JinjaError("TypeError", `%${kind} format: an integer is required, not float`);
    }
    return signed(based(number, kind, spec.isAlternate), spec);
  }
  return signed(floatText(Number(number), { ...spec, precision: precision ?? 6 }), spec);
}

function padDigits(value: bigint, { precision }: Spec): string {
  const text = integerText(value < 0n ? -value : value).padStart(precision ?? 0, "0");
  return value < 0n ? `-${text}` : text;
}

function based(value: bigint, kind: string, withPrefix: boolean): string {
  const base = { o: 8, x: 16, X: 16, b: 2 }[kind] ?? 10;
  const digits = (value < 0n ? -value : value).toString(base);
  const text = (withPrefix ? `0${kind.toLowerCase()}` : "") + digits;
  return (value < 0n ? "-" : "") + (kind === "X" ? text.toUpperCase() : text);
}

function floatText(value: number, spec: Spec): string {
  const { kind, precision, isAlternate } = spec;
  const digits = precision ?? 6;
  if (digits > maxPrecision) throw new JinjaError("ValueError", "precision too big");
  const lower = kind.toLowerCase();
  const text = lower === "e"
    ? exponential(value, digits)
    : lower === "g"
    ? general(value, digits, isAlternate)
    : fixed(value, digits);
  return kind === lower ? text : text.toUpperCase();
}

/** Adds a sign and fills to the width; zeros go behind the sign. */
function signed(text: string, spec: Spec): string {
  const isNegative = text.startsWith("-");
  const sign = isNegative ? "-" : spec.sign === "-" ? "" : spec.sign;
  let digits = isNegative ? text.slice(1) : text;
  if (spec.grouping !== "") digits = grouped(digits, spec.grouping);
  if (spec.align === "=") {
    const prefix = /^0[xXob]/.exec(digits)?.[0] ?? "";
    const missing = spec.width - sign.length - digits.length;
    return sign + prefix + spec.fill.repeat(Math.max(0, missing)) + digits.slice(prefix.length);
  }
  return pad(sign + digits, spec);
}

function grouped(digits: string, mark: string): string {
  const whole = /^\d+/.exec(digits)?.[0] ?? "";
  const parts: string[] = [];
  for (let end = whole.length; end > 0; end -= 3) {
    parts.unshift(whole.slice(Math.max(0, end - 3), end));
  }
  return parts.join(mark) + digits.slice(whole.length);
}

function pad(text: string, { fill, align, width }: Spec): string {
  const missing = width - textLength(text);
  if (missing <= 0) return text;
  if (align === "<") return text + fill.repeat(missing);
  if (align !== "^") return fill.repeat(missing) + text;
  const left = Math.floor(missing / 2);
  return fill.repeat(left) + text + fill.repeat(missing - left);
}

/** How `str.format()` reads an attribute or an item of a value. */
export interface Reader {
  /** `value.name` of Python. */
  attribute(value: unknown, name: string): unknown;
  /** `value[key]` of Python. */
  item(value: unknown, key: unknown): unknown;
}

/** `template.format(...)`. */
export function formatText(
  template: string,
  given: { args: readonly unknown[]; named: ReadonlyMap<string, unknown> },
  tools: { budget: Budget; reader: Reader },
): string {
  tools.budget.each(template.length);
  let counter = 0;
  let size = 0;
  const field = (body: string): string => {
    const [, name = "", conversion, spec = ""] =
      /^((?:[^!:[]|\[[^\]]*\])*)(?:!(.))?(?::([^]*))?$/.exec(body) ?? [];
    const [first] = /^[^.[]*/.exec(name)!;
    const rest = name.slice(first.length);
    let value: unknown;
    if (first === "" || /^\d+$/.test(first)) {
      const index = first === "" ? counter++ : Number(first);
      if (index >= given.args.length) {
        throw new JinjaError(
          "IndexError",
          `Replacement index ${index} out of range for positional args tuple`,
        );
      }
      value = given.args[index];
    } else {
      if (!given.named.has(first)) throw new JinjaError("KeyError", repr(first));
      value = given.named.get(first);
    }
    for (const [, attribute, key] of rest.matchAll(/\.([^.[]+)|\[([^\]]*)\]/gy)) {
      value = attribute !== undefined
        ? tools.reader.attribute(value, attribute)
        : tools.reader.item(value, /^\d+$/.test(key!) ? BigInt(key!) : key);
    }
    if (conversion === "r") value = repr(value);
    else if (conversion === "s") value = toText(value);
    else if (conversion === "a") value = ascii(value);
    return formatOne(
      value,
      spec.replace(/\{([^{}]*)\}/g, (_, inner) => field(inner)),
      tools.budget,
    );
  };
  return template.replace(/\{\{|\}\}|\{((?:[^{}]|\{[^{}]*\})*)\}|[{}]/g, (whole, body) => {
    if (whole === "{{") return "{";
    if (whole === "}}") return "}";
    if (body !== undefined) {
      const text = field(body);
      tools.budget.make(text.length);
      tools.budget.fits(size += text.length);
      return text;
    }
    throw new JinjaError(
      "ValueError",
      whole === "}"
        ? "Single '}' encountered in format string"
        : "expected '}' before end of string",
    );
  });
}

function formatOne(value: unknown, spec: string, budget: Budget): string {
  if (spec === "") return toText(value);
  const parts =
    /^(?:([^])?([<>=^]))?([-+ ])?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([bcdeEfFgGnosxX%])?$/u.exec(
      spec,
    );
  if (parts === null) throw new JinjaError("ValueError", `Invalid format specifier '${spec}'`);
  const [, fill, align, sign = "-", alternate, zero, width = "0", grouping = "", precision, kind] =
    parts;
  budget.make(Math.max(Number(width), Number(precision ?? 0)));
  const number = typeof value === "string" ? null : asNumber(value);
  const made: Spec = {
    fill: fill ?? (zero === undefined ? " " : "0"),
    align: align ?? (number === null ? "<" : zero === undefined ? ">" : "="),
    sign,
    isAlternate: alternate !== undefined,
    width: Number(width),
    grouping,
    precision: precision === undefined ? null : Number(precision),
    kind: kind ?? "",
  };
  if (number === null || kind === "s") {
    if (typeof value !== "string") {
      throw new JinjaError(
        "TypeError",
        `unsupported format string passed to ${typeName(value)}.__format__`,
      );
    }
    if (kind !== undefined && kind !== "s") {
      throw new JinjaError("ValueError", `Unknown format code '${kind}' for object of type 'str'`);
    }
    const cut = made.precision === null ? value : sliceText(value, 0, made.precision);
    return pad(cut, made);
  }
  return signed(numberText(number, made), made);
}

function numberText(number: bigint | number, spec: Spec): string {
  const { kind, precision } = spec;
  if (typeof number === "bigint") {
    if (kind === "" || kind === "d" || kind === "n") return integerText(number);
    if ("boxX".includes(kind)) return based(number, kind, spec.isAlternate);
    if (kind === "c") return String.fromCodePoint(Number(number));
  }
  const value = Number(number);
  if (kind === "%") return `${fixed(value * 100, precision ?? 6)}%`;
  if (kind === "" && precision === null) return floatRepr(value);
  if (kind === "" || kind === "n") return general(value, precision ?? 6, spec.isAlternate);
  if ("eEfFgG".includes(kind)) return floatText(value, spec);
  throw new JinjaError("ValueError", `Unknown format code '${kind}' for object of type 'float'`);
}
