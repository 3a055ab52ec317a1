/** JSON as Python's `json` module reads and writes it. */
import { type Budget, budgetAtHand } from "./budget.ts";
import { floatRepr, integerText, replaceCounted } from "./text.ts";
import {
  ArgumentsText,
  compare,
  JinjaError,
  Markup,
  PythonFloat,
  Tuple,
  typeName,
} from "./values.ts";

/** Options of `json.dumps`. */
export interface DumpOptions {
  /** Spaces, or a text, for each level; `null` for one line. */
  readonly indent: string | null;
  /** Between entries, and between a key and its value; `null` for Python's defaults. */
  readonly separators: readonly [string, string] | null;
  /** Whether keys are sorted. */
  readonly sortKeys: boolean;
  /** Whether other than ASCII characters are escaped. */
  readonly ensureAscii: boolean;
}

const plain: DumpOptions = { indent: null, separators: null, sortKeys: false, ensureAscii: false };

/** `json.dumps(value)`. */
export function dumps(value: unknown, given?: Budget, options: DumpOptions = plain): string {
  const budget = given ?? budgetAtHand();
  const { indent, sortKeys, ensureAscii } = options;
  const [comma, colon] = options.separators ?? [indent === null ? ", " : ",", ": "];
  const written = <T>(items: readonly T[], write: (item: T) => string): string[] => {
    let size = 0;
    return items.map((item) => {
      const part = write(item);
      budget?.fits(size += part.length);
      return part;
    });
  };
  const text = (value: string) => {
    budget?.work(value.length);
    return quoted(value, ensureAscii);
  };
  const block = (open: string, close: string, items: string[], level: number): string => {
    if (items.length === 0) return open + close;
    budget?.make(items.reduce((size, item) => size + item.length + comma.length, 0));
    if (indent === null) return open + items.join(comma) + close;
    budget?.make((level + 1) * indent.length * items.length);
    const line = "\n" + indent.repeat(level + 1);
    return open + line + items.join(comma + line) + "\n" + indent.repeat(level) + close;
  };
  const write = (value: unknown, level: number): string => {
    budget?.step();
    if (value === null) return "null";
    if (typeof value === "string") return text(value);
    if (typeof value === "boolean") return String(value);
    if (typeof value === "bigint") return integerText(value);
    if (typeof value === "number") return float(value);
    if (value instanceof ArgumentsText) return write(value.dict, level);
    if (value instanceof Markup) return text(value.text);
    if (Array.isArray(value) || value instanceof Tuple) {
      const items = Array.isArray(value) ? value : value.items;
      return block("[", "]", written(items, (item) => write(item, level + 1)), level);
    }
    if (value instanceof Map) {
      const entries = [...value];
      if (sortKeys) entries.sort(([a], [b]) => compare(a, b));
      const items = written(
        entries,
        ([key, item]) => text(keyText(key)) + colon + write(item, level + 1),
      );
      return block("{", "}", items, level);
    }
    throw new JinjaError("TypeError", `Object of type ${typeName(value)} is not JSON serializable`);
  };
  return write(value, 0);
}

function float(value: number): string {
  if (Number.isFinite(value)) return floatRepr(value);
  return Number.isNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

function keyText(key: unknown): string {
  if (typeof key === "string") return key;
  if (key === null) return "null";
  if (typeof key === "boolean") return String(key);
  if (typeof key === "bigint") return integerText(key);
  if (typeof key === "number") return float(key);
  throw new JinjaError(
    "TypeError",
    `keys must be str, int, float, bool or None, not ${typeName(key)}`,
  );
}

const short: Readonly<Record<string, string>> = {
  '"': '\\"',
  "\\": "\\\\",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\f": "\\f",
  "\b": "\\b",
};

function quoted(text: string, ensureAscii: boolean): string {
  // deno-lint-ignore no-control-regex
  const pattern = ensureAscii ? /["\\\x00-\x1f\x7f-\uffff]/g : /["\\\x00-\x1f]/g;
  const inner = replaceCounted(
    text,
    pattern,
    (char) => short[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `"${inner}"`;
}

/**
 * Reads JSON without losing what Python keeps: `1.0` stays a float ({@linkcode PythonFloat}) and an
 * integer beyond 2^53 becomes a bigint. All else is as `JSON.parse` has it.
 *
 * Give it chats that Python made, so that a template writes the same numbers as there.
 *
 * @throws {SyntaxError} The text is not JSON.
 */
export function parseJson(text: string): unknown {
  return JSON.parse(
    text,
    function (this: unknown, _key: string, value: unknown, context?: { source?: string }) {
      if (typeof value !== "number" || context?.source === undefined) return value;
      if (/[.eE]/.test(context.source)) {
        return Number.isInteger(value) ? new PythonFloat(value) : value;
      }
      return Number.isSafeInteger(value) ? value : BigInt(context.source);
    },
  );
}
