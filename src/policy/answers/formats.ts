/** How model families write calls of tools. Each reader takes one pass over the text. */
import { callOf, fault, type Found, namedCall, withoutEndTokens } from "./answer.ts";
import { tryJson } from "../exact_numbers.ts";
import type { CallFormat, ToolCallFormat } from "./call_format.ts";
import { framedFormats } from "./framed_formats.ts";
import { jsonBlock } from "./json_block.ts";
import { jsonCalls } from "./json_calls.ts";
import { jsonPieces } from "./json_values.ts";
import { onlyPythonCalls } from "./python_calls.ts";
import { readGlm, readXml } from "./tagged_arguments.ts";

/** `<tool_call>`: JSON of Hermes and Qwen, `<function=…>` of Qwen3-Coder, `<arg_key>` of GLM. */
const tagged: CallFormat = {
  name: "hermes",
  opens: ["<tool_call>"],
  read(scanner, at, open, kinds) {
    const start = at + open.length;
    const tagged = readXml(scanner, start, { isFramed: true, kinds }) ??
      readGlm(scanner, start, kinds);
    if (tagged !== null) return tagged;
    const { body, end } = jsonBlock(scanner, start, { close: "</tool_call>", opens: this.opens });
    const name = withoutEndTokens(body);
    const isName = /^[\w.-]+$/.test(name);
    return { end, found: isName ? [callOf({ name, arguments: {} }, body)] : jsonCalls(body) };
  },
};

/** `<function=name>` without `<tool_call>`, and with JSON in it, as Llama 3.1 writes it. */
const xml: CallFormat = {
  name: "qwen3_coder",
  opens: ["<function="],
  read: (scanner, at, _open, kinds) =>
    readXml(scanner, at, { isFramed: false, kinds }) ??
      { end: scanner.text.length, found: [fault(scanner.text.slice(at), "the call has no name")] },
};

/** `[TOOL_CALLS]` and a list of JSON, or `[TOOL_CALLS]name[ARGS]{…}`. What stands behind is said. */
const mistral: CallFormat = {
  name: "mistral",
  opens: ["[TOOL_CALLS]"],
  read(scanner, at, open) {
    const start = at + open.length;
    const block = jsonBlock(scanner, start, { close: null, opens: this.opens });
    const head = /^\s*([^\s[{][^[{]*)((?:\[CALL_ID\][^[{]*)?)\[ARGS\]/.exec(block.body);
    const from = head?.[0].length ?? 0;
    const [piece] = jsonPieces(block.body.slice(from));
    if (piece === undefined || !piece.isValue || tryJson(piece.text) === null) {
      return { end: block.end, found: [fault(open + block.body, "the calls are not JSON")] };
    }
    const body = block.body.slice(from, from + piece.end);
    const end = start + from + piece.end;
    if (head !== null) return { end, found: [namedCall(head[1]!.trim(), body, body)] };
    return { end, found: jsonCalls(body) };
  },
};

/** DeepSeek V3, R1 and V3.1. */
const deepseek: CallFormat = {
  name: "deepseekv3",
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
    return { end, found: builtInCall(body) ?? jsonCalls(body) };
  },
};

/** Tools that Llama 3.1 was trained with are called in Python: `brave_search.call(query="x")`. */
function builtInCall(body: string): Found[] | null {
  const text = withoutEndTokens(body);
  if (!/^\w+\.call\(/.test(text)) return null;
  return onlyPythonCalls(text.replace(".call(", "("));
}

function withoutMarks(text: string, marks: readonly string[]): string {
  const plain = withoutEndTokens(text);
  const mark = marks.find((one) => plain.endsWith(one));
  return mark === undefined ? plain : plain.slice(0, -mark.length).trimEnd();
}

/** All formats whose calls have a mark of their own. */
export const callFormats: readonly CallFormat[] = [
  tagged,
  xml,
  mistral,
  deepseek,
  kimi,
  pythonTag,
  ...framedFormats,
];

/** Names of all formats. */
export const toolCallFormats: readonly ToolCallFormat[] = [
  ...callFormats.map(({ name }) => name),
  "gpt-oss",
];

/** Marks around lists of calls: they are not said. */
export const listMarks = [
  "<｜tool▁calls▁begin｜>",
  "<｜tool▁calls▁end｜>",
  "<|tool_calls_section_begin|>",
  "<|tool_calls_section_end|>",
  "<｜tool_calls_begin｜>",
  "<｜tool_calls_end｜>",
] as const;
