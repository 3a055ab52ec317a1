/** How model families write calls of tools. Each reader takes one pass over the text. */
import {
  callOf,
  fault,
  type Found,
  jsonCall,
  namedCall,
  type Reading,
  type TextParameters,
  tryJson,
  withoutEndTokens,
} from "./answer.ts";
import { jsonBlock } from "./json_block.ts";
import type { Scanner } from "./scanner.ts";
import { readGlm, readXml } from "./tagged_arguments.ts";

/** A way to write calls. */
export interface CallFormat {
  /** Its name. */
  readonly name: string;
  /** What a call begins with. */
  readonly opens: readonly string[];
  /** Reads what begins at a place. */
  read(scanner: Scanner, at: number, open: string, texts: TextParameters): Reading;
}

/** `<tool_call>`: JSON of Hermes and Qwen, `<function=…>` of Qwen3-Coder, `<arg_key>` of GLM. */
const tagged: CallFormat = {
  name: "hermes",
  opens: ["<tool_call>"],
  read(scanner, at, open, texts) {
    const start = at + open.length;
    const tagged = readXml(scanner, start, { isFramed: true, texts }) ??
      readGlm(scanner, start, texts);
    if (tagged !== null) return tagged;
    const { body, end } = jsonBlock(scanner, start, { close: "</tool_call>", opens: this.opens });
    const name = withoutEndTokens(body);
    const isName = /^[\w.-]+$/.test(name);
    return { end, found: [isName ? callOf({ name, arguments: {} }, body) : jsonCall(body)] };
  },
};

/** `<function=name>` without `<tool_call>`, and with JSON in it, as Llama 3.1 writes it. */
const xml: CallFormat = {
  name: "qwen3_coder",
  opens: ["<function="],
  read: (scanner, at, _open, texts) =>
    readXml(scanner, at, { isFramed: false, texts }) ??
      { end: scanner.text.length, found: [fault(scanner.text.slice(at), "the call has no name")] },
};

/** `[TOOL_CALLS]` and a list of JSON, or `[TOOL_CALLS]name[ARGS]{…}`. */
const mistral: CallFormat = {
  name: "mistral",
  opens: ["[TOOL_CALLS]"],
  read(scanner, at, open) {
    const block = jsonBlock(scanner, at + open.length, { close: null, opens: this.opens });
    const { end } = block;
    const body = withoutEndTokens(block.body);
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
    const { body, end } = jsonBlock(scanner, at + open.length, {
      close: "<｜tool▁call▁end｜>",
      opens: this.opens,
    });
    const cut = body.indexOf("<｜tool▁sep｜>");
    if (cut < 0) return { end, found: [fault(body, "the call has no name")] };
    const rest = body.slice(cut + "<｜tool▁sep｜>".length);
    const fence = /^\s*([^\s`{]+)\s*```json/.exec(rest);
    if (fence === null) {
      const json = withoutMarks(rest, ["<｜tool▁calls▁end｜>"]);
      return { end, found: [namedCall(body.slice(0, cut).trim(), json, body)] };
    }
    const start = fence[0].length;
    const last = rest.lastIndexOf("```");
    const fenced = rest.slice(start, last < start ? rest.length : last);
    return { end, found: [namedCall(fence[1]!, fenced, body)] };
  },
};

/** Kimi K2: `functions.name:0`. */
const kimi: CallFormat = {
  name: "kimi_k2",
  opens: ["<|tool_call_begin|>"],
  read(scanner, at, open) {
    const { body, end } = jsonBlock(scanner, at + open.length, {
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
    const { body, end } = jsonBlock(scanner, at + open.length, { close: null, opens: this.opens });
    return { end, found: jsonCalls(body) };
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
