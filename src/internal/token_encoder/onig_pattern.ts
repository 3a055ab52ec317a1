/** Regular expressions of `tokenizer.json`, which are Oniguruma's in Ruby's syntax, as JavaScript's. */
import { regularExpression } from "../regular_expression.ts";
import { onigWord, onigWordInClass, whiteSpace } from "./characters.ts";

/** Longest expression that is read. */
const MAX_LENGTH = 65_536;

/**
 * The same expression for JavaScript, to be used from left to right (flags `gv`). `\s`, `\w`, `\d`, `\b`,
 * `.`, `^` and `$` mean what they mean in Oniguruma; possessive quantifiers and atomic groups are kept.
 *
 * @throws {SyntaxError} Something in it is not known here.
 */
export function onigPattern(source: string): RegExp {
  if (source.length > MAX_LENGTH) throw new SyntaxError("The regular expression is too long");
  return regularExpression(new Translator(source).whole(), "gv");
}

/** A plain text as an expression. */
export function textPattern(text: string): RegExp {
  return new RegExp(literal(text), "gv");
}

/**
 * The matches of a pattern from left to right as Oniguruma finds them: an empty one right behind
 * another match does not count.
 */
export function* matchesOf(
  pattern: RegExp,
  text: string,
): Generator<readonly [start: number, end: number], void, undefined> {
  if (text === "") return;
  let lastEnd = -1;
  pattern.lastIndex = 0;
  for (let found = pattern.exec(text); found !== null; found = pattern.exec(text)) {
    const start = found.index;
    const end = start + found[0].length;
    // JavaScript looks for empty matches within pairs of units too.
    if (start === end && (end === lastEnd || isWithinPair(text, end))) {
      pattern.lastIndex = end + (text.codePointAt(end)! > 0xffff ? 2 : 1);
      continue;
    }
    lastEnd = end;
    yield [start, end];
    // Whoever asked may have used the pattern meanwhile.
    pattern.lastIndex = end;
  }
}

function isWithinPair(text: string, place: number): boolean {
  return place > 0 && text.codePointAt(place - 1)! > 0xffff;
}

const posix: Readonly<Record<string, string>> = {
  alnum: "\\p{Alphabetic}\\p{Nd}",
  alpha: "\\p{Alphabetic}",
  ascii: "\\x00-\\x7f",
  blank: "\\t\\p{Zs}",
  cntrl: "\\p{Cc}",
  digit: "\\p{Nd}",
  lower: "\\p{Lowercase}",
  punct: "\\p{P}$+<=>\\^`\\|~",
  space: whiteSpace,
  upper: "\\p{Uppercase}",
  word: onigWordInClass,
  xdigit: "0-9a-fA-F",
};

const classes: Readonly<Record<string, string>> = {
  s: whiteSpace,
  w: onigWordInClass,
  d: "\\p{Nd}",
  h: "0-9a-fA-F",
};

const controls: Readonly<Record<string, string>> = {
  t: "\\t",
  n: "\\n",
  r: "\\r",
  f: "\\f",
  v: "\\v",
  a: "\\x07",
  e: "\\x1b",
};

const anchors: Readonly<Record<string, string>> = {
  A: "^",
  z: "$",
  Z: "(?=\\n?$)",
  // Where a search begins: texts are searched from left to right, so that it is nearly always true.
  G: "",
  b: `(?:(?<=[${onigWord}])(?![${onigWord}])|(?<![${onigWord}])(?=[${onigWord}]))`,
  B: `(?:(?<=[${onigWord}])(?=[${onigWord}])|(?<![${onigWord}])(?![${onigWord}]))`,
  R: "(?:\\r\\n|[\\n-\\r\\u0085\\u2028\\u2029])",
};

/** A text as it stands in an expression, within classes too. */
function literal(text: string): string {
  return text.replace(
    /[^\w\x80-\u{10ffff}]/gu,
    (sign) => `\\x${sign.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

class Translator {
  readonly #signs: readonly string[];
  #at = 0;
  #atomic = 0;

  constructor(source: string) {
    this.#signs = [...source];
  }

  whole(): string {
    const pattern = this.#alternatives({ dotAll: false, isFree: false });
    if (this.#at < this.#signs.length) throw new SyntaxError("Unmatched ) in an expression");
    return pattern;
  }

  /** Up to the end of a group. */
  #alternatives(flags: { dotAll: boolean; isFree: boolean }): string {
    let pattern = "";
    while (this.#at < this.#signs.length && this.#signs[this.#at] !== ")") {
      if (this.#takes("|")) pattern += "|";
      else pattern += this.#quantified(flags);
    }
    return pattern;
  }

  #quantified(flags: { dotAll: boolean; isFree: boolean }): string {
    if (flags.isFree) this.#skipSpace();
    let item = this.#item(flags);
    if (item === null) return "";
    for (
      let quantifier = this.#quantifier();
      quantifier !== null;
      quantifier = this.#quantifier()
    ) {
      const { text, isPossessive } = quantifier;
      // A second quantifier repeats what the first one made.
      item = isPossessive ? this.#atomicGroup(item + text) : `(?:${item}${text})`;
    }
    return item;
  }

  #atomicGroup(pattern: string): string {
    const name = `atomic${this.#atomic++}`;
    return `(?:(?=(?<${name}>${pattern}))\\k<${name}>)`;
  }

  #quantifier(): { text: string; isPossessive: boolean } | null {
    const rest = this.#signs.slice(this.#at, this.#at + 24).join("");
    // {n,m}+ repeats in Ruby's syntax, ?+ *+ ++ are possessive.
    const simple = /^([?*+])([?+]?)/.exec(rest);
    const interval = /^\{(\d*)(?:(,)(\d*))?\}(\??)/.exec(rest);
    if (simple !== null) {
      this.#at += simple[0].length;
      const isLazy = simple[2] === "?";
      return { text: simple[1]! + (isLazy ? "?" : ""), isPossessive: simple[2] === "+" };
    }
    if (interval === null || interval[1] === "" && (interval[3] ?? "") === "") return null;
    this.#at += interval[0].length;
    const [, least, comma = "", most = "", lazy] = interval;
    return { text: `{${least || 0}${comma}${most}}${lazy}`, isPossessive: false };
  }

  #item(flags: { dotAll: boolean; isFree: boolean }): string | null {
    const sign = this.#signs[this.#at];
    if (sign === undefined || sign === ")" || sign === "|") return null;
    this.#at++;
    switch (sign) {
      case "(":
        return this.#group(flags);
      case "[":
        return this.#class();
      case ".":
        return flags.dotAll ? "[^]" : "[^\\n]";
      case "^":
        return "(?:^|(?<=\\n)(?=[^]))";
      case "$":
        return "(?=\\n|$)";
      case "\\":
        return this.#escape();
      default:
        return literal(sign);
    }
  }

  #group(outer: { dotAll: boolean; isFree: boolean }): string {
    const rest = this.#signs.slice(this.#at, this.#at + 64).join("");
    if (rest.startsWith("?#")) {
      while (this.#at < this.#signs.length && this.#signs[this.#at] !== ")") this.#at++;
      this.#expect(")");
      return "";
    }
    const plain = /^\?(?:[:=!]|<[=!]|<[A-Za-z]\w*>)/.exec(rest)?.[0];
    if (plain !== undefined) {
      this.#at += plain.length;
      return this.#closed(`(${plain}`, outer);
    }
    if (rest.startsWith("?>")) {
      this.#at += 2;
      const inner = this.#alternatives(outer);
      this.#expect(")");
      return this.#atomicGroup(inner);
    }
    const flagged = /^\?([imx]*)(?:-([imx]*))?([:)])/.exec(rest);
    if (flagged === null) {
      if (rest.startsWith("?")) throw new SyntaxError(`Unknown group (${rest.slice(0, 4)}`);
      return this.#closed("(", outer);
    }
    const [whole, on = "", off = "", end] = flagged;
    this.#at += whole.length;
    const isOn = (flag: string, before: boolean) =>
      on.includes(flag) || before && !off.includes(flag);
    const flags = { dotAll: isOn("m", outer.dotAll), isFree: isOn("x", outer.isFree) };
    const open = on.includes("i") ? "(?i:" : off.includes("i") ? "(?-i:" : "(?:";
    // Flags without a colon hold to the end of the group around.
    return end === ":" ? this.#closed(open, flags) : `${open}${this.#alternatives(flags)})`;
  }

  #closed(open: string, flags: { dotAll: boolean; isFree: boolean }): string {
    const inner = this.#alternatives(flags);
    this.#expect(")");
    return `${open}${inner})`;
  }

  #escape(): string {
    const sign = this.#next();
    if (Object.hasOwn(anchors, sign)) return anchors[sign]!;
    if (/[1-9]/.test(sign)) return `(?:\\${sign})`;
    if (sign === "k") return `\\k<${this.#until("<", ">")}>`;
    if (sign === "w") return `[${onigWord}]`;
    if (sign === "W") return `[^${onigWord}]`;
    return this.#set(sign) ?? this.#character(sign);
  }

  /** What is a set of characters, as a class. */
  #set(sign: string): string | null {
    const lower = sign.toLowerCase();
    if (Object.hasOwn(classes, lower)) {
      return `[${lower === sign ? "" : "^"}${classes[lower]}]`;
    }
    if (lower !== "p") return null;
    const name = this.#until("{", "}");
    const isNegated = (sign === "P") !== name.startsWith("^");
    return `[${isNegated ? "^" : ""}${property(name.replace(/^\^/, ""))}]`;
  }

  #character(sign: string): string {
    if (Object.hasOwn(controls, sign)) return controls[sign]!;
    const digits = (most: number) => {
      let text = "";
      while (text.length < most && /[\da-fA-F]/.test(this.#signs[this.#at] ?? "")) {
        text += this.#signs[this.#at++];
      }
      return text;
    };
    if (sign === "x") {
      const code = this.#signs[this.#at] === "{" ? this.#until("{", "}").trim() : digits(2);
      return `\\u{${code || 0}}`;
    }
    if (sign === "u") return `\\u{${digits(4) || 0}}`;
    if (sign === "0") return "\\x00";
    if (/[A-Za-z]/.test(sign)) throw new SyntaxError(`Unknown escape \\${sign}`);
    return literal(sign);
  }

  /** A class behind its bracket: classes in it, ranges, and intersections. */
  #class(): string {
    const negated = this.#takes("^") ? "^" : "";
    const operands: string[] = [];
    let members = "";
    let isFirst = true;
    while (isFirst || this.#signs[this.#at] !== "]") {
      if (this.#signs[this.#at] === "&" && this.#signs[this.#at + 1] === "&") {
        this.#at += 2;
        operands.push(`[${members}]`);
        members = "";
      } else members += this.#member();
      isFirst = false;
    }
    this.#expect("]");
    operands.push(operands.length === 0 ? members : `[${members}]`);
    return `[${negated}${operands.join("&&")}]`;
  }

  #member(): string {
    const sign = this.#next();
    if (sign === "[") {
      const name = /^:(\^?)([a-z]+):\]/.exec(this.#signs.slice(this.#at, this.#at + 16).join(""));
      if (name === null) return this.#class();
      this.#at += name[0].length;
      return `[${name[1]}${property(name[2]!)}]`;
    }
    let first: string;
    if (sign === "\\") {
      const escaped = this.#next();
      const set = this.#set(escaped);
      if (set !== null) return set;
      first = escaped === "b" ? "\\x08" : this.#character(escaped);
    } else first = literal(sign);
    const isRange = this.#signs[this.#at] === "-" && this.#signs[this.#at + 1] !== "]" &&
      this.#signs[this.#at + 1] !== undefined;
    if (!isRange) return first;
    const before = this.#at++;
    const end = this.#next();
    if (end === "[" || end === "\\" && /[swdhp]/i.test(this.#signs[this.#at] ?? "")) {
      this.#at = before;
      return first;
    }
    return `${first}-${end === "\\" ? this.#character(this.#next()) : literal(end)}`;
  }

  #skipSpace(): void {
    while (this.#at < this.#signs.length) {
      if (this.#takes("#")) {
        while (this.#at < this.#signs.length && this.#signs[this.#at] !== "\n") this.#at++;
      } else if (/[ \t\r\n\f\v]/.test(this.#signs[this.#at]!)) this.#at++;
      else return;
    }
  }

  #until(open: string, close: string): string {
    this.#expect(open);
    const end = this.#signs.indexOf(close, this.#at);
    if (end < 0) throw new SyntaxError(`An expression has no ${close}`);
    const text = this.#signs.slice(this.#at, end).join("");
    this.#at = end + 1;
    return text;
  }

  #next(): string {
    const sign = this.#signs[this.#at++];
    if (sign === undefined) throw new SyntaxError("An expression ends too early");
    return sign;
  }

  #takes(sign: string): boolean {
    if (this.#signs[this.#at] !== sign) return false;
    this.#at++;
    return true;
  }

  #expect(sign: string): void {
    if (!this.#takes(sign)) throw new SyntaxError(`An expression has no ${sign}`);
  }
}

/** A property of Unicode, or one of POSIX, as the inside of a class. */
function property(name: string): string {
  const plain = name.replace(/[\s_-]/g, "").toLowerCase();
  if (Object.hasOwn(posix, plain)) return posix[plain]!;
  for (const one of [`\\p{${name}}`, `\\p{Script=${name}}`]) {
    try {
      regularExpression(one, "v");
      return one;
    } catch {
      // Perhaps the other.
    }
  }
  throw new SyntaxError(`Unknown property of characters \\p{${name}}`);
}
