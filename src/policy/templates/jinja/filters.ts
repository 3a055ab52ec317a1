/** Jinja's filters, with `tojson` as transformers has it. */
import { Arguments } from "./arguments.ts";
import { type Budget, budgetAtHand } from "./budget.ts";
import { fixed } from "./decimals.ts";
import { percent } from "./format.ts";
import { binary } from "./operators.ts";
import { dumps } from "./json.ts";
import { justify, replace, splitLines } from "./methods.ts";
import {
  capitalize,
  codePoints,
  lower,
  replaceCounted,
  repr,
  sliceText,
  strip,
  titleCase,
  toText,
} from "./text.ts";
import {
  ArgumentsText,
  asNumber,
  type CallArguments,
  compare,
  equals,
  isTrue,
  iterate,
  JinjaError,
  lengthOf,
  OneTime,
  toIndex,
  Tuple,
  typeName,
  Undefined,
} from "./values.ts";

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
function items(value: unknown, { budget }: Tools): readonly unknown[] {
  const list = iterate(value);
  budget.work(list.length);
  return list;
}

/** The same, and none of whatever is false. */
function itemsOrNone(value: unknown, tools: Tools): readonly unknown[] {
  return isTrue(value) ? items(value, tools) : [];
}

/** Reads `a.b.0` of a value, for filters with `attribute`. */
function reader(
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

function ignoringCase(isCaseSensitive: unknown): (value: unknown) => unknown {
  return (value) => {
    if (typeof value !== "string" || isTrue(isCaseSensitive)) return value;
    budgetAtHand()?.work(value.length);
    return lower(value);
  };
}

function sorted(
  list: readonly unknown[],
  key: (value: unknown) => unknown,
  isReversed: boolean,
  { budget }: Tools,
): unknown[] {
  const keyed = list.map((value) => ({ value, key: key(value) }));
  keyed.sort((a, b) => (budget.step(), isReversed ? compare(b.key, a.key) : compare(a.key, b.key)));
  return keyed.map(({ value }) => value);
}

/** `select`, `reject` and their forms with an attribute. */
function chooser(isKept: boolean, withAttribute: boolean): Filter {
  return (value, { args, named }, tools) => {
    if (withAttribute && args.length === 0) {
      throw new JinjaError("FilterArgumentError", "Missing parameter for attribute name");
    }
    const read = withAttribute ? reader(args[0], tools) : (item: unknown) => item;
    const [name, ...rest] = withAttribute ? args.slice(1) : args;
    const isTrueFor = (item: unknown) =>
      name === undefined ? isTrue(item) : tools.test(toText(name), item, { args: rest, named });
    return new OneTime(
      itemsOrNone(value, tools).filter((item) => isTrueFor(read(item)) === isKept),
    );
  };
}

function extreme(sign: 1 | -1): Filter {
  return (value, given, tools) => {
    const args = new Arguments("max", ["case_sensitive", "attribute"], given);
    const fold = ignoringCase(args.get("case_sensitive", false));
    const read = reader(args.get("attribute"), tools);
    const list = items(value, tools);
    if (list.length === 0) return new Undefined("No aggregated item, sequence was empty.");
    return list.reduce((best, item) =>
      compare(fold(read(item)), fold(read(best))) * sign > 0 ? item : best
    );
  };
}

function text(value: unknown, { budget }: Tools): string {
  const result = toText(value);
  budget.make(result.length);
  return result;
}

/** The text of a value whose characters are looked at one by one. */
function oneByOne(value: unknown, tools: Tools): string {
  const result = text(value, tools);
  tools.budget.each(result.length);
  return result;
}

/** A text without comments and tags; looks for no end a second time that was not there. */
function withoutTags(html: string): string {
  let result = "";
  let at = 0;
  const missing = new Set<string>();
  const endOf = (mark: string, from: number): number => {
    if (missing.has(mark)) return -1;
    const end = html.indexOf(mark, from);
    if (end < 0) missing.add(mark);
    return end < 0 ? -1 : end + mark.length;
  };
  for (let open = html.indexOf("<"); open >= 0; open = html.indexOf("<", Math.max(at, open + 1))) {
    const comment = html.startsWith("<!--", open) ? endOf("-->", open + 4) : -1;
    const end = comment >= 0 ? comment : endOf(">", open + 1);
    if (end < 0) continue;
    result += html.slice(at, open);
    at = end;
  }
  return result + html.slice(at);
}

function quotedUrl(part: string, safe: string): string {
  return encodeURIComponent(part).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  ).replaceAll("%2F", safe);
}

function reversible(value: unknown): readonly unknown[] {
  if (!(value instanceof OneTime)) return iterate(value);
  throw new JinjaError("TypeError", `'${value.name}' object is not reversible`);
}

const html: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "'": "&#39;",
  '"': "&#34;",
};

const escape: Filter = (value, _, tools) =>
  replaceCounted(text(value, tools), /[&<>'"]/g, (char) => html[char]!);

const length: Filter = (value) => BigInt(lengthOf(value));

const byDefault: Filter = (value, given) => {
  const args = new Arguments("default", ["default_value", "boolean"], given);
  const isMissing = value instanceof Undefined ||
    isTrue(args.get("boolean", false)) && !isTrue(value);
  return isMissing ? args.get("default_value", "") : value;
};

/** The filters by name. */
export const filters: Readonly<Record<string, Filter>> = {
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
  batch(value, given, tools) {
    const args = new Arguments("batch", ["linecount", "fill_with"], given, 1);
    const size = args.integer("linecount");
    const list = items(value, tools);
    tools.budget.make(size);
    if (size < 1) throw new JinjaError("ValueError", "batch needs a positive number");
    const rows: unknown[][] = [];
    for (let at = 0; at < list.length; at += size) rows.push(list.slice(at, at + size));
    const last = rows.at(-1);
    const fill = args.get("fill_with");
    if (last !== undefined && fill !== null) { while (last.length < size) last.push(fill); }
    return new OneTime(rows);
  },
  capitalize: (value, _, tools) => capitalize(text(value, tools)),
  center(value, given, tools) {
    const width = new Arguments("center", ["width"], given).integer("width", 80);
    tools.budget.make(width);
    return justify(toText(value), width, " ", "center");
  },
  count: length,
  d: byDefault,
  default: byDefault,
  dictsort(value, given, tools) {
    const args = new Arguments("dictsort", ["case_sensitive", "by", "reverse"], given);
    const place = args.get("by", "key") === "value" ? 1 : 0;
    const fold = ignoringCase(args.get("case_sensitive", false));
    if (!(value instanceof Map)) {
      if (value instanceof Undefined) value.fail();
      throw new JinjaError("TypeError", `dictsort needs a dict, not ${typeName(value)}`);
    }
    const pairs = [...value].map((pair) => new Tuple(pair));
    const key = (pair: unknown) => fold((pair as Tuple).items[place]);
    return sorted(pairs, key, isTrue(args.get("reverse", false)), tools);
  },
  e: escape,
  escape,
  forceescape: escape,
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
  first(value, _, tools) {
    if (value instanceof OneTime) {
      const next = value.next();
      return next === null ? new Undefined("No first item, sequence was empty.") : next.value;
    }
    const list = items(value, tools);
    return list.length === 0 ? new Undefined("No first item, sequence was empty.") : list[0];
  },
  float(value, given) {
    if (value instanceof Undefined) value.fail();
    const otherwise = new Arguments("float", ["default"], given).get("default", 0);
    const number = asNumber(value);
    if (number !== null) return Number(number);
    return typeof value === "string" ? readFloat(value) ?? otherwise : otherwise;
  },
  format(value, { args, named }, { budget }) {
    if (args.length > 0 && named.size > 0) {
      throw new JinjaError(
        "FilterArgumentError",
        "can't handle positional and keyword arguments at the same time",
      );
    }
    return percent(toText(value), named.size > 0 ? new Map(named) : new Tuple(args), budget);
  },
  groupby(value, given, tools) {
    const args = new Arguments("groupby", ["attribute", "default", "case_sensitive"], given, 1);
    const fold = ignoringCase(args.get("case_sensitive", false));
    const read = reader(args.get("attribute"), tools, args.get("default"));
    const key = (item: unknown) => fold(read(item));
    const groups: { key: unknown; first: unknown; list: unknown[] }[] = [];
    for (const item of sorted(items(value, tools), key, false, tools)) {
      const last = groups.at(-1);
      if (last !== undefined && equals(last.key, key(item))) last.list.push(item);
      else groups.push({ key: key(item), first: read(item), list: [item] });
    }
    return groups.map(({ first, list }) => new Group(first, list));
  },
  indent(value, given, tools) {
    const args = new Arguments("indent", ["width", "first", "blank"], given);
    const width = args.get("width", 4n);
    tools.budget.make(typeof width === "bigint" ? toIndex(width) : 0);
    const indention = typeof width === "string"
      ? width
      : " ".repeat(Math.max(0, args.integer("width", 4)));
    if (typeof value !== "string") {
      if (value instanceof Undefined) value.fail();
      throw new JinjaError(
        "TypeError",
        `unsupported operand type(s) for +=: '${typeName(value)}' and 'str'`,
      );
    }
    const whole = `${value}\n`;
    let result: string;
    if (isTrue(args.get("blank", false))) {
      const list = splitLines(whole);
      tools.budget.make(whole.length + list.length * indention.length);
      result = list.join(`\n${indention}`);
    } else {
      const [first = "", ...rest] = splitLines(whole);
      tools.budget.make(whole.length + rest.length * indention.length);
      result = first;
      if (rest.length > 0) {
        result += `\n${rest.map((line) => line === "" ? line : indention + line).join("\n")}`;
      }
    }
    return isTrue(args.get("first", false)) ? indention + result : result;
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
  items(value) {
    if (value instanceof Undefined) return new OneTime([]);
    const dict = value instanceof ArgumentsText ? value.dict : value;
    if (dict instanceof Map) return new OneTime([...dict].map((pair) => new Tuple(pair)));
    throw new JinjaError("TypeError", "Can only get item pairs from a mapping.");
  },
  join(value, given, tools) {
    const args = new Arguments("join", ["d", "attribute"], given);
    const read = reader(args.get("attribute"), tools);
    const separator = toText(args.get("d", ""));
    let size = 0;
    const parts = items(value, tools).map((item) => {
      const part = toText(read(item));
      size += part.length + separator.length;
      tools.budget.make(size);
      return part;
    });
    return parts.join(separator);
  },
  last(value, _, tools) {
    reversible(value);
    const list = items(value, tools);
    return list.length === 0 ? new Undefined("No last item, sequence was empty.") : list.at(-1);
  },
  length,
  list: (value, _, tools) => [...items(value, tools)],
  lower: (value, _, tools) => lower(text(value, tools)),
  map(value, { args, named }, tools) {
    const list = itemsOrNone(value, tools);
    if (args.length === 0 && named.has("attribute")) {
      const extra = [...named.keys()].find((name) => name !== "attribute" && name !== "default");
      if (extra !== undefined) {
        throw new JinjaError("FilterArgumentError", `Unexpected keyword argument '${extra}'`);
      }
      const read = reader(named.get("attribute"), tools, named.get("default"));
      return new OneTime(list.map(read));
    }
    const [name, ...rest] = args;
    if (name === undefined) {
      throw new JinjaError("FilterArgumentError", "map requires a filter argument");
    }
    return new OneTime(list.map((item) => tools.filter(toText(name), item, { args: rest, named })));
  },
  max: extreme(1),
  min: extreme(-1),
  pprint(value, _, { budget }) {
    const result = repr(value);
    budget.make(result.length);
    return result;
  },
  reject: chooser(false, false),
  rejectattr: chooser(false, true),
  replace(value, given, { budget }) {
    const args = new Arguments("replace", ["old", "new", "count"], given, 2);
    const count = args.get("count") === null ? -1 : args.integer("count");
    return replace(toText(value), toText(args.get("old")), toText(args.get("new")), count, budget);
  },
  reverse(value, _, tools) {
    if (typeof value === "string") {
      tools.budget.each(value.length);
      return Array.from(value).reverse().join("");
    }
    return new OneTime([...items(value, tools)].reverse(), "list_reverseiterator");
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
  safe: (value, _, tools) => text(value, tools),
  select: chooser(true, false),
  selectattr: chooser(true, true),
  slice(value, given, tools) {
    const args = new Arguments("slice", ["slices", "fill_with"], given, 1);
    const slices = args.integer("slices");
    tools.budget.make(slices);
    const list = items(value, tools);
    const size = Math.floor(list.length / slices);
    const larger = list.length % slices;
    const rows: unknown[][] = [];
    for (let i = 0, at = 0; i < slices; i++) {
      const end = at + size + (i < larger ? 1 : 0);
      const row = list.slice(at, end);
      if (args.get("fill_with") !== null && i >= larger) row.push(args.get("fill_with"));
      rows.push(row);
      at = end;
    }
    return new OneTime(rows);
  },
  sort(value, given, tools) {
    const args = new Arguments("sort", ["reverse", "case_sensitive", "attribute"], given);
    const fold = ignoringCase(args.get("case_sensitive", false));
    const attribute = args.get("attribute");
    const reads = typeof attribute === "string"
      ? attribute.split(",").map((part) => reader(part, tools))
      : [reader(attribute, tools)];
    const key = (item: unknown) =>
      reads.length === 1 ? fold(reads[0]!(item)) : reads.map((read) => fold(read(item)));
    return sorted(items(value, tools), key, isTrue(args.get("reverse", false)), tools);
  },
  string: (value, _, tools) => text(value, tools),
  striptags: (value, _, tools) =>
    withoutTags(oneByOne(value, tools)).split(/\s+/).filter(Boolean).join(" "),
  sum(value, given, tools) {
    const args = new Arguments("sum", ["attribute", "start"], given);
    const read = reader(args.get("attribute"), tools);
    return items(value, tools).reduce(
      (total, item) => binary("+", total, read(item), tools.budget),
      args.get("start", 0n),
    );
  },
  title(value, _, tools) {
    const parts = oneByOne(value, tools).split(/([-\s({[<]+)/);
    return parts.map((part) => {
      const [first = ""] = part;
      return titleCase(first) + lower(part.slice(first.length));
    }).join("");
  },
  tojson(value, given, { budget }) {
    const names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    const args = new Arguments("tojson", names, given);
    const indent = args.get("indent");
    const separators = args.get("separators");
    const width = typeof indent === "bigint" ? toIndex(indent) : 0;
    budget.make(width);
    return dumps(value, budget, {
      ensureAscii: isTrue(args.get("ensure_ascii", false)),
      indent: indent === null
        ? null
        : typeof indent === "string"
        ? indent
        : " ".repeat(Math.max(0, width)),
      separators: separators === null ? null : iterate(separators).map(toText) as [string, string],
      sortKeys: isTrue(args.get("sort_keys", false)),
    });
  },
  trim(value, given, tools) {
    const chars = new Arguments("trim", ["chars"], given).textOrNone("chars");
    return strip(text(value, tools), chars, "both");
  },
  truncate(value, given, tools) {
    const args = new Arguments("truncate", ["length", "killwords", "end", "leeway"], given);
    const most = args.integer("length", 255);
    const end = args.text("end", "...");
    const leeway = args.get("leeway") === null ? 5 : args.integer("leeway");
    if (lengthOf(value) <= most + leeway) return value;
    const whole = text(value, tools);
    const cut = sliceText(whole, 0, Math.max(0, most - codePoints(end).length));
    if (isTrue(args.get("killwords", false))) return cut + end;
    const space = cut.lastIndexOf(" ");
    return (space < 0 ? cut : cut.slice(0, space)) + end;
  },
  unique(value, given, tools) {
    const args = new Arguments("unique", ["case_sensitive", "attribute"], given);
    const fold = ignoringCase(args.get("case_sensitive", false));
    const read = reader(args.get("attribute"), tools);
    const seen = new Set<unknown>();
    return new OneTime(
      items(value, tools).filter((item) => {
        const found = fold(read(item));
        tools.budget.work(typeof found === "string" ? found.length : 1);
        const key = typeof found === "string"
          ? `s${found}`
          : found instanceof Tuple
          ? dumps(found)
          : found;
        if (seen.has(key)) return false;
        seen.add(key);
        return true;
      }),
    );
  },
  upper: (value, _, tools) => text(value, tools).toUpperCase(),
  urlencode(value, _, tools) {
    let size = 0;
    const quote = (part: string, safe: string) => {
      // A character becomes up to nine.
      tools.budget.make(part.length * 9);
      const quoted = quotedUrl(part, safe);
      tools.budget.fits(size += quoted.length + 1);
      return quoted;
    };
    if (value instanceof Map) {
      return [...value].map(([key, item]) =>
        `${quote(toText(key), "%2F")}=${quote(toText(item), "%2F")}`
      ).join("&");
    }
    return quote(text(value, tools).toWellFormed(), "/");
  },
  wordcount(value, _, tools) {
    let count = 0;
    for (const _ of oneByOne(value, tools).matchAll(/[\p{L}\p{N}\p{M}_]+/gu)) count++;
    return BigInt(count);
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
  const plain = strip(text, null, "both");
  if (/^[+-]?(\d+(_\d+)*(\.(\d+(_\d+)*)?)?|\.\d+(_\d+)*)([eE][+-]?\d+)?$/.test(plain)) {
    return Number(plain.replaceAll("_", ""));
  }
  const special = /^([+-]?)(inf|infinity|nan)$/i.exec(plain);
  if (special === null) return null;
  return special[2]!.toLowerCase() === "nan" ? NaN : special[1] === "-" ? -Infinity : Infinity;
}

function readInteger(text: string, base: number): bigint | null {
  const plain = strip(text, null, "both").toLowerCase();
  const prefix: Readonly<Record<number, string>> = { 2: "0b", 8: "0o", 16: "0x" };
  const digits = /^([+-]?)(0[xob])?([\da-z]+(?:_[\da-z]+)*)$/.exec(plain);
  if (digits !== null && (digits[2] === undefined || digits[2] === prefix[base])) {
    let total = 0n;
    for (const digit of digits[3]!.replaceAll("_", "").slice(0, 4300)) {
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

/** A group of `groupby`: a tuple whose entries have names. */
export class Group extends Tuple {
  /** Makes it. */
  constructor(readonly grouper: unknown, readonly list: readonly unknown[]) {
    super([grouper, list]);
  }
}
