/** Filters that make texts. */
import { Arguments } from "./arguments.ts";
import { binary } from "./operators.ts";
import { percent } from "./format.ts";
import { dumps } from "./json.ts";
import { justify, replace, splitLines } from "./text_methods.ts";
import { capitalize, lower } from "./letter_case.ts";
import { escaped, escapedValues, escapeText } from "./markup.ts";
import { codePoints, repr, sliceText, strip, toText, words } from "./text.ts";
import {
  isTrue,
  iterate,
  JinjaError,
  lengthOf,
  Markup,
  toIndex,
  Tuple,
  typeName,
  Undefined,
} from "./values.ts";
import { type Filter, oneByOne, text } from "./filter.ts";

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

const escape: Filter = (value, _, { budget }) => {
  const result = escaped(value);
  budget.make(result.length);
  return new Markup(result);
};

/** The filters by name. */
export const textFilters: Readonly<Record<string, Filter>> = {
  capitalize: (value, _, tools) => capitalize(text(value, tools)),
  center(value, given, tools) {
    const width = new Arguments("center", ["width"], given).integer("width", 80);
    tools.budget.make(width);
    return justify(toText(value), width, " ", "center");
  },
  e: escape,
  escape,
  forceescape: (value, _, tools) => new Markup(escapeText(text(value, tools))),
  format(value, { args, named }, { budget }) {
    if (args.length > 0 && named.size > 0) {
      throw new JinjaError(
        "FilterArgumentError",
        "can't handle positional and keyword arguments at the same time",
      );
    }
    const values = named.size > 0 ? new Map(named) : new Tuple(args);
    if (!(value instanceof Markup)) return percent(toText(value), values, budget);
    return new Markup(percent(value.text, escapedValues(values), budget));
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
    tools.budget.each(whole.length);
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
  lower: (value, _, tools) => lower(text(value, tools)),
  pprint(value, _, { budget }) {
    const result = repr(value);
    budget.make(result.length);
    return result;
  },
  replace(value, given, { budget }) {
    const args = new Arguments("replace", ["old", "new", "count"], given, 2);
    const count = args.get("count") === null ? -1 : args.integer("count");
    return replace(toText(value), toText(args.get("old")), toText(args.get("new")), count, budget);
  },
  safe: (value, _, tools) => new Markup(text(value, tools)),
  string: (value, _, tools) => text(value, tools),
  striptags: (value, _, tools) => words(withoutTags(oneByOne(value, tools))).join(" "),
  title(value, _, tools) {
    const border =
      // deno-lint-ignore no-control-regex
      /([-\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000({[<]+)/;
    return oneByOne(value, tools).split(border).map((part) => {
      const [first = ""] = part;
      return first.toUpperCase() + lower(part.slice(first.length));
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
    const end = args.get("end", "...");
    const leeway = args.get("leeway") === null ? 5 : args.integer("leeway");
    const least = codePoints(toText(end)).length;
    if (most < least) {
      throw new JinjaError("AssertionError", `expected length >= ${least}, got ${most}`);
    }
    if (leeway < 0) throw new JinjaError("AssertionError", `expected leeway >= 0, got ${leeway}`);
    if (lengthOf(value) <= most + leeway) return value;
    const whole = text(value, tools);
    const cut = sliceText(whole, 0, most - least);
    const space = isTrue(args.get("killwords", false)) ? -1 : cut.lastIndexOf(" ");
    const kept = space < 0 ? cut : cut.slice(0, space);
    return value instanceof Markup
      ? new Markup(kept + escaped(end))
      : binary("+", kept, end, tools.budget);
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
    for (const _ of oneByOne(value, tools).matchAll(/[\p{L}\p{N}_]+/gu)) count++;
    return BigInt(count);
  },
};
