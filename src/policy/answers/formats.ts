/** How model families write calls of tools. Each reader takes one pass over the text. */
import {
  callOf,
  fault,
  type Found,
  jsonCall,
  looseValue,
  namedCall,
  tryJson,
  withoutEndTokens,
} from "./answer.ts";
import type { Scanner } from "./scanner.ts";

/** What a format needs to know of a tool: the types of its parameters. */
export type TextParameters = (tool: string) => ReadonlySet<string>;

/** What one reading found: where it ends, and the calls up to there. */
export interface Reading {
  /** The first place behind what was read. */
  readonly end: number;
  /** Calls and faults, in order. */
  readonly found: readonly Found[];
}

/** A way to write calls. */
export interface CallFormat {
  /** Its name. */
  readonly name: string;
  /** What a call begins with. */
  readonly opens: readonly string[];
  /** Reads what begins at a place. */
  read(scanner: Scanner, at: number, open: string, texts: TextParameters): Reading;
}

/** What stands from a place to a closing mark, to the next opening, or to the end. */
function block(
  scanner: Scanner,
  start: number,
  { close, opens }: { close: string; opens: readonly string[] },
): { body: string; end: number } {
  const closed = scanner.find(close, start);
  const next = scanner.first(opens, start);
  if (closed >= 0 && (next === null || closed < next.at)) {
    return { body: scanner.text.slice(start, closed), end: closed + close.length };
  }
  const end = next?.at ?? scanner.text.length;
  return { body: scanner.text.slice(start, end), end };
}

/** Between two marks of a text, or `null`; the second may be the end of the text. */
function between(text: string, open: string, close: string): string | null {
  const start = text.indexOf(open);
  if (start < 0) return null;
  const end = text.indexOf(close, start + open.length);
  return text.slice(start + open.length, end < 0 ? text.length : end);
}

/** `<tool_call>`: JSON of Hermes and Qwen, `<function=…>` of Qwen3-Coder, `<arg_key>` of GLM. */
const tagged: CallFormat = {
  name: "hermes",
  opens: ["<tool_call>"],
  read(scanner, at, open, texts) {
    const { body, end } = block(scanner, at + open.length, {
      close: "</tool_call>",
      opens: this.opens,
    });
    const text = withoutEndTokens(body);
    if (text.startsWith("<function=")) return { end, found: xmlCalls(text, texts) };
    if (!text.startsWith("{") && /^[\w.-]+\s*(?:<arg_key>|$)/.test(text)) {
      return { end, found: [glmCall(text, texts)] };
    }
    return { end, found: [jsonCall(body)] };
  },
};

/** `<function=name><parameter=key>value</parameter></function>` without `<tool_call>`. */
const xml: CallFormat = {
  name: "qwen3_coder",
  opens: ["<function="],
  read(scanner, at, _open, texts) {
    const { body, end } = block(scanner, at + 1, { close: "</function>", opens: this.opens });
    return { end, found: xmlCalls(`<${withoutEndTokens(body)}`, texts) };
  },
};

function xmlCalls(text: string, texts: TextParameters): Found[] {
  return text.split("<function=").slice(1).map((part) => {
    const nameEnd = part.indexOf(">");
    if (nameEnd < 0) return fault(`<function=${part}`, "the call has no name");
    const name = part.slice(0, nameEnd).trim();
    const given: Record<string, unknown> = {};
    for (const parameter of part.slice(nameEnd + 1).split("<parameter=").slice(1)) {
      const keyEnd = parameter.indexOf(">");
      if (keyEnd < 0) return fault(`<function=${part}`, "a parameter has no name");
      const key = parameter.slice(0, keyEnd).trim();
      const close = parameter.indexOf("</parameter>", keyEnd);
      if (close < 0 && !parameter.includes("</function>")) {
        return fault(`<function=${part}`, `the parameter ${key} has no end`);
      }
      const end = close < 0 ? parameter.indexOf("</function>") : close;
      const value = parameter.slice(keyEnd + 1, end).replace(/^\n/, "").replace(/\n$/, "");
      given[key] = looseValue(value, texts(name).has(key));
    }
    return callOf({ name, arguments: given }, `<function=${part}`);
  });
}

function glmCall(text: string, texts: TextParameters): Found {
  const [head = "", ...pairs] = text.split("<arg_key>");
  const name = head.trim();
  const given: Record<string, unknown> = {};
  for (const pair of pairs) {
    const keyEnd = pair.indexOf("</arg_key>");
    const value = between(pair, "<arg_value>", "</arg_value>");
    if (keyEnd < 0 || value === null || !pair.includes("</arg_value>")) {
      return fault(text, "an argument has no value");
    }
    const key = pair.slice(0, keyEnd).trim();
    given[key] = looseValue(value, texts(name).has(key));
  }
  return callOf({ name, arguments: given }, text);
}

/** `[TOOL_CALLS]` and a list of JSON, or `[TOOL_CALLS]name[ARGS]{…}`. */
const mistral: CallFormat = {
  name: "mistral",
  opens: ["[TOOL_CALLS]"],
  read(scanner, at, open) {
    const start = at + open.length;
    const next = scanner.find(open, start);
    const end = next < 0 ? scanner.text.length : next;
    const body = withoutEndTokens(scanner.text.slice(start, end));
    const args = body.indexOf("[ARGS]");
    if (!body.startsWith("[") && !body.startsWith("{") && args >= 0) {
      const name = body.slice(0, args).split("[CALL_ID]")[0]!.trim();
      return { end, found: [namedCall(name, body.slice(args + "[ARGS]".length), body)] };
    }
    const read = tryJson(body);
    if (read === null) return { end, found: [fault(open + body, "the calls are not JSON")] };
    const list = Array.isArray(read.value) ? read.value : [read.value];
    return { end, found: list.map((value) => callOf(value, body)) };
  },
};

/** DeepSeek V3, R1 and V3.1. */
const deepseek: CallFormat = {
  name: "deepseek",
  opens: ["<｜tool▁call▁begin｜>"],
  read(scanner, at, open) {
    const { body, end } = block(scanner, at + open.length, {
      close: "<｜tool▁call▁end｜>",
      opens: this.opens,
    });
    const cut = body.indexOf("<｜tool▁sep｜>");
    if (cut < 0) return { end, found: [fault(body, "the call has no name")] };
    const rest = body.slice(cut + "<｜tool▁sep｜>".length);
    const fenced = between(rest, "```json", "```");
    if (fenced === null) {
      const json = withoutMarks(rest, ["<｜tool▁calls▁end｜>"]);
      return { end, found: [namedCall(body.slice(0, cut).trim(), json, body)] };
    }
    const name = rest.slice(0, rest.indexOf("```json")).trim();
    return { end, found: [namedCall(name, fenced, body)] };
  },
};

/** Kimi K2: `functions.name:0`. */
const kimi: CallFormat = {
  name: "kimi_k2",
  opens: ["<|tool_call_begin|>"],
  read(scanner, at, open) {
    const { body, end } = block(scanner, at + open.length, {
      close: "<|tool_call_end|>",
      opens: this.opens,
    });
    const cut = body.indexOf("<|tool_call_argument_begin|>");
    if (cut < 0) return { end, found: [fault(body, "the call has no arguments")] };
    const id = body.slice(0, cut).trim();
    const name = id.replace(/^functions\./, "").replace(/:\d+$/, "");
    const json = withoutMarks(
      body.slice(cut + "<|tool_call_argument_begin|>".length),
      ["<|tool_calls_section_end|>"],
    );
    const found = namedCall(name, json, body);
    return { end, found: ["call" in found ? { call: { ...found.call, id } } : found] };
  },
};

/** Llama 3.1 with its tag: one JSON object, or several with `;` between them. */
const pythonTag: CallFormat = {
  name: "llama3",
  opens: ["<|python_tag|>"],
  read(scanner, at, open) {
    const start = at + open.length;
    const next = scanner.find(open, start);
    const end = next < 0 ? scanner.text.length : next;
    return { end, found: jsonCalls(scanner.text.slice(start, end)) };
  },
};

/** JSON objects one after the other, with `;` or white space between them. */
export function jsonCalls(text: string): Found[] {
  const plain = withoutEndTokens(text);
  const whole = tryJson(plain);
  if (whole !== null) {
    return (Array.isArray(whole.value) ? whole.value : [whole.value]).map((one) =>
      callOf(one, text)
    );
  }
  return plain.split(/;\s*(?=\{)|\n(?=\{)/).map(jsonCall);
}

function withoutMarks(text: string, marks: readonly string[]): string {
  const plain = withoutEndTokens(text);
  const mark = marks.find((one) => plain.endsWith(one));
  return mark === undefined ? plain : plain.slice(0, -mark.length).trimEnd();
}

/** All formats whose calls have a mark of their own. */
export const callFormats: readonly CallFormat[] = [tagged, xml, mistral, deepseek, kimi, pythonTag];

/** Marks around lists of calls: they are not said. */
export const listMarks = [
  "<｜tool▁calls▁begin｜>",
  "<｜tool▁calls▁end｜>",
  "<|tool_calls_section_begin|>",
  "<|tool_calls_section_end|>",
] as const;
