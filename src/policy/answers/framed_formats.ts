/** Ways to write calls between two marks: JSON, Python's syntax, tags. */
import { fault, type Found, namedCall, withoutEndTokens } from "./answer.ts";
import type { CallFormat, ToolCallFormat } from "./call_format.ts";
import { tryJson } from "../exact_numbers.ts";
import { isRecord } from "../../internal/json.ts";
import { gemmaCall, gemmaQuote } from "./gemma_call.ts";
import {
  allInvokeTags,
  type InvokeTags,
  plainTags,
  readInvokes,
  stepTags,
} from "./invoke_arguments.ts";
import { jsonBlock } from "./json_block.ts";
import { jsonCalls } from "./json_calls.ts";
import { jsonPieces } from "./json_values.ts";
import { onlyPythonCalls, pythonCalls, pythonLines } from "./python_calls.ts";
import { readXml } from "./tagged_arguments.ts";

type Marks = readonly [open: string, close: string];

/** Where what `sticky` finds at a place ends; the place itself where that does not stand there. */
function endOf(sticky: RegExp, text: string, at: number): number {
  sticky.lastIndex = at;
  return at + (sticky.exec(text)?.[0].length ?? 0);
}

/** Calls between two marks, as JSON or in Python's syntax. */
function framed(
  name: ToolCallFormat,
  [open, close]: Marks,
  read: (body: string) => Found[],
): CallFormat {
  const opens = [open];
  return {
    name,
    opens,
    read(scanner, at) {
      const { body, end } = jsonBlock(scanner, at + open.length, { close, opens });
      return { end, found: read(withoutEndTokens(body)) };
    },
  };
}

function pythonOrJson(body: string): Found[] {
  return /^\s*(?:\[\s*)?\{/.test(body) ? jsonCalls(body) : onlyPythonCalls(body);
}

/** Cohere gives ids their own key. */
function cohereCalls(body: string): Found[] {
  return jsonCalls(body).map((found) => {
    if (!("call" in found)) return found;
    const { tool_call_id: id, ...call } = found.call;
    return { call: typeof id === "string" ? { ...call, id } : call };
  });
}

/** Calls between two marks in Python's syntax: marks in its texts are those texts. */
function pythonic(
  name: ToolCallFormat,
  [open, close]: Marks,
): CallFormat {
  const asJson = framed(name, [open, close], pythonOrJson);
  return {
    ...asJson,
    read(scanner, at, mark, kinds) {
      const start = at + open.length;
      const calls = scanner.mayReadAgain(0) ? pythonCalls(scanner.text.slice(start)) : null;
      scanner.mayReadAgain(calls?.end ?? 0);
      if (calls?.found === undefined) return asJson.read(scanner, at, mark, kinds);
      const end = start + calls.end;
      const behind = endOf(/\s*/y, scanner.text, end);
      const isClosed = scanner.text.startsWith(close, behind);
      return { end: isClosed ? behind + close.length : end, found: calls.found };
    },
  };
}

/** Gemma 4 and FunctionGemma: marks in their texts are those texts. */
function gemma(name: ToolCallFormat, [open, close]: Marks, quote: string): CallFormat {
  const opens = [open];
  return {
    name,
    opens,
    read(scanner, at) {
      const { body, end } = jsonBlock(scanner, at + open.length, { close, opens, quote });
      return { end, found: [gemmaCall(withoutEndTokens(body), quote)] };
    },
  };
}

/** Families whose calls are `<invoke name="…">` in a frame. */
function invokes(name: ToolCallFormat, tags: InvokeTags): CallFormat {
  return {
    name,
    opens: [tags.open],
    read: (scanner, at, open, kinds) => readInvokes(scanner, at + open.length, { tags, kinds }),
  };
}

/** InternLM: code for its interpreter is no call that can be read. */
function internCalls(body: string): Found[] {
  const json = /^\s*<\|plugin\|>/.exec(body);
  return json === null
    ? [fault(body, "only calls behind <|plugin|> can be read")]
    : jsonCalls(body.slice(json[0].length));
}

/** Apertus: a list of `{"name": {…}}`. */
function apertusCalls(body: string): Found[] {
  const list = tryJson(withoutEndTokens(body))?.value;
  if (!Array.isArray(list)) return [fault(body, "the calls are not a list of JSON")];
  return list.map((one) => {
    const [entry, ...more] = isRecord(one) ? Object.entries(one) : [];
    return entry === undefined || more.length > 0
      ? fault(JSON.stringify(one), 'a call must be {"name": {arguments}}')
      : namedCall(entry[0], JSON.stringify(entry[1]), JSON.stringify(one));
  });
}

const hunyuanJson = framed("hunyuan_a13b", ["<tool_calls>", "</tool_calls>"], jsonCalls);

/** `<tool_calls>` with JSON, or, as Hunyuan's later models write it, with calls in their own frames. */
const hunyuan: CallFormat = {
  ...hunyuanJson,
  read(scanner, at, open, kinds) {
    const behind = /\s*<tool_call>/y;
    behind.lastIndex = at + open.length;
    if (behind.test(scanner.text)) return { end: at + open.length, found: [] };
    return hunyuanJson.read(scanner, at, open, kinds);
  },
};

/** OLMo 3: calls in Python's syntax, one in a line; others write `<invoke name="…">` in this frame. */
const olmo: CallFormat = {
  name: "olmo3",
  opens: ["<function_calls>"],
  read(scanner, at, open, kinds) {
    const start = at + open.length;
    const invoke = /\s*<invoke\s/y;
    invoke.lastIndex = start;
    if (invoke.test(scanner.text)) return readInvokes(scanner, start, { tags: plainTags, kinds });
    const close = "</function_calls>";
    const calls = scanner.mayReadAgain(0) ? pythonLines(scanner.text.slice(start)) : null;
    scanner.mayReadAgain(calls?.end ?? 0);
    if (calls !== null && calls.found.length > 0) {
      const behind = endOf(/\s*/y, scanner.text, start + calls.end);
      if (scanner.text.startsWith(close, behind)) {
        return { end: behind + close.length, found: calls.found };
      }
      if (withoutEndTokens(scanner.text.slice(behind)) === "") {
        return { end: scanner.text.length, found: calls.found };
      }
    }
    const { body, end } = jsonBlock(scanner, start, { close, opens: this.opens });
    const json = /^\s*[[{]\s*["{]/.test(body) ? jsonCalls(body) : null;
    return { end, found: json ?? [fault(body, "the calls are not in Python's syntax")] };
  },
};

/** Seed-OSS: Qwen3-Coder's tags in a frame of its own. */
const seed: CallFormat = {
  name: "seed_oss",
  opens: ["<seed:tool_call>"],
  read(scanner, at, open, kinds) {
    const close = /\s*(<\/seed:tool_call>)/y;
    const start = at + open.length;
    return readXml(scanner, start, { isFramed: true, kinds, close }) ??
      { end: scanner.text.length, found: [fault(scanner.text.slice(at), "the call has no name")] };
  },
};

/** Step 3: `function<｜tool_sep｜>` and tags. */
const step: CallFormat = {
  name: "step3",
  opens: [stepTags.open],
  read(scanner, at, open, kinds) {
    const start = endOf(/\s*function<｜tool_sep｜>/y, scanner.text, at + open.length);
    return readInvokes(scanner, start, { tags: stepTags, kinds });
  },
};

/** JSON right behind a mark that has no closing one; `close` may stand behind it. */
function behind(
  name: ToolCallFormat,
  { opens, close }: { opens: readonly string[]; close?: RegExp },
  read: (json: string) => Found[],
): CallFormat {
  return {
    name,
    opens,
    read(scanner, at, open) {
      // The bracket of `functools[` belongs to the list.
      const start = at + open.length - (open.endsWith("[") ? 1 : 0);
      const block = jsonBlock(scanner, start, { close: null, opens });
      const [piece] = jsonPieces(block.body);
      if (piece === undefined || !piece.isValue || tryJson(piece.text) === null) {
        return { end: block.end, found: [fault(open + block.body, "the calls are not JSON")] };
      }
      const end = start + piece.end;
      return {
        end: close === undefined ? end : endOf(close, scanner.text, end),
        found: read(piece.text),
      };
    },
  };
}

/** All formats whose calls stand in a frame. */
export const framedFormats: readonly CallFormat[] = [
  pythonic("pythonic", ["<|python_start|>", "<|python_end|>"]),
  pythonic("lfm2", ["<|tool_call_start|>", "<|tool_call_end|>"]),
  framed("phi4", ["<|tool_call|>", "<|/tool_call|>"], jsonCalls),
  framed("nemotron", ["<TOOLCALL>", "</TOOLCALL>"], jsonCalls),
  framed("cohere_command4", ["<|START_ACTION|>", "<|END_ACTION|>"], cohereCalls),
  gemma("gemma4", ["<|tool_call>", "<tool_call|>"], gemmaQuote),
  ...allInvokeTags.map(([name, tags]) => invokes(name, tags)),
  step,
  seed,
  hunyuan,
  framed("interns1", ["<|action_start|>", "<|action_end|>"], internCalls),
  framed("granite-20b-fc", ["<function_call>", "</function_call>"], jsonCalls),
  framed("apertus2509", ["<|tools_prefix|>", "<|tools_suffix|>"], apertusCalls),
  olmo,
  gemma("functiongemma", ["<start_function_call>", "<end_function_call>"], "<escape>"),
  behind(
    "command_r",
    { opens: ["Action: ```json", "Action:```json"], close: /\s*```/y },
    cohereCalls,
  ),
  behind("phi4_mini_json", { opens: ["functools["] }, jsonCalls),
];
