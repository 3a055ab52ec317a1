/** Jinja's filters, with `tojson` as transformers has it. */
import { Arguments } from "./arguments.ts";
import { budgetAtHand } from "./budget.ts";
import { fixed } from "./decimals.ts";
import { asciiDigits } from "./letter_case.ts";
import { repr, strip } from "./text.ts";
import { asNumber, isTrue, JinjaError, typeName, Undefined } from "./values.ts";
import type { Filter } from "./filter.ts";
import { sequenceFilters } from "./sequence_filters.ts";
import { textFilters } from "./text_filters.ts";

const byDefault: Filter = (value, given) => {
  const args = new Arguments("default", ["default_value", "boolean"], given);
  const isMissing = value instanceof Undefined ||
    isTrue(args.get("boolean", false)) && !isTrue(value);
  return isMissing ? args.get("default_value", "") : value;
};

/** The filters by name. */
export const filters: Readonly<Record<string, Filter>> = {
  ...sequenceFilters,
  ...textFilters,
  abs(value) {
    const number = asNumber(value);
    if (number !== null) {
      return typeof number === "bigint" && number < 0n
        ? -number
        : Number(number) < 0
        ? -number
        : number;
    }
    if (value instanceof Undefined) value.fail();
    throw new JinjaError("TypeError", `bad operand type for abs(): '${typeName(value)}'`);
  },
  attr: (value, given, tools) =>
    tools.attribute(value, new Arguments("attr", ["name"], given, 1).text("name")),
  d: byDefault,
  default: byDefault,
  filesizeformat(value, given) {
    const isBinary = isTrue(
      new Arguments("filesizeformat", ["binary"], given).get("binary", false),
    );
    const base = isBinary ? 1024 : 1000;
    const number = asNumber(value) ?? (typeof value === "string" ? readFloat(value) : null);
    if (number === null) {
      throw new JinjaError("ValueError", `could not convert to float: ${repr(value)}`);
    }
    const bytes = Number(number);
    const units = isBinary
      ? ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]
      : ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    if (bytes === 1) return "1 Byte";
    if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
    const power = Math.min(units.length, Math.floor(Math.log(bytes) / Math.log(base)));
    return `${fixed(bytes / base ** power, 1)} ${units[power - 1]}`;
  },
  float(value, given) {
    if (value instanceof Undefined) value.fail();
    const otherwise = new Arguments("float", ["default"], given).get("default", 0);
    const number = asNumber(value);
    if (number !== null) return Number(number);
    return typeof value === "string" ? readFloat(value) ?? otherwise : otherwise;
  },
  int(value, given) {
    if (value instanceof Undefined) value.fail();
    const args = new Arguments("int", ["default", "base"], given);
    const number = asNumber(value);
    if (typeof number === "bigint") return number;
    if (typeof number === "number") {
      return Number.isFinite(number) ? BigInt(Math.trunc(number)) : args.get("default", 0n);
    }
    const read = typeof value === "string" ? readInteger(value, args.integer("base", 10)) : null;
    return read ?? args.get("default", 0n);
  },
  round(value, given) {
    const args = new Arguments("round", ["precision", "method"], given);
    const precision = args.integer("precision", 0);
    const method = args.text("method", "common");
    const number = asNumber(value);
    if (number === null) {
      if (value instanceof Undefined) value.fail();
      throw new JinjaError("TypeError", `type ${typeName(value)} doesn't define __round__ method`);
    }
    if (method === "ceil") return Math.ceil(Number(number) * 10 ** precision) / 10 ** precision;
    if (method === "floor") return Math.floor(Number(number) * 10 ** precision) / 10 ** precision;
    if (method !== "common") {
      throw new JinjaError("FilterArgumentError", "method must be common, ceil or floor");
    }
    if (typeof number === "bigint") return roundInteger(number, precision);
    return precision >= 0 && precision < 400
      ? Number(fixed(number, precision))
      : Number(roundInteger(BigInt(Math.trunc(number)), precision));
  },
};

function roundInteger(value: bigint, precision: number): bigint {
  if (precision >= 0) return value;
  const unit = 10n ** BigInt(Math.min(-precision, 400));
  const rest = ((value % unit) + unit) % unit;
  const low = value - rest;
  const isUp = rest * 2n > unit || rest * 2n === unit && (low / unit) % 2n !== 0n;
  return isUp ? low + unit : low;
}

function readFloat(text: string): number | null {
  budgetAtHand()?.each(text.length);
  const plain = asciiDigits(strip(text, null, "both"));
  if (/^[+-]?(\d+(_\d+)*(\.(\d+(_\d+)*)?)?|\.\d+(_\d+)*)([eE][+-]?\d+)?$/.test(plain)) {
    return Number(plain.replaceAll("_", ""));
  }
  const special = /^([+-]?)(inf|infinity|nan)$/i.exec(plain);
  if (special === null) return null;
  return special[2]!.toLowerCase() === "nan" ? NaN : special[1] === "-" ? -Infinity : Infinity;
}

/** Digits of an integer that are read at most, as in Python. */
const MAX_DIGITS = 4300;

function readInteger(text: string, base: number): bigint | null {
  // Each digit goes over all digits before it.
  const digitCount = Math.min(text.length, MAX_DIGITS);
  budgetAtHand()?.each(text.length + digitCount + digitCount * digitCount / 1024);
  const plain = asciiDigits(strip(text, null, "both")).toLowerCase();
  const prefix: Readonly<Record<number, string>> = { 2: "0b", 8: "0o", 16: "0x" };
  const digits = /^([+-]?)(0[xob])?([\da-z]+(?:_[\da-z]+)*)$/.exec(plain);
  if (digits !== null && (digits[2] === undefined || digits[2] === prefix[base])) {
    let total = 0n;
    for (const digit of digits[3]!.replaceAll("_", "").slice(0, MAX_DIGITS)) {
      const value = parseInt(digit, 36);
      if (!(value < base)) return fromFloat(text);
      total = total * BigInt(base) + BigInt(value);
    }
    return digits[1] === "-" ? -total : total;
  }
  return fromFloat(text);
}

function fromFloat(text: string): bigint | null {
  const value = readFloat(text);
  return value === null || !Number.isFinite(value) ? null : BigInt(Math.trunc(value));
}
