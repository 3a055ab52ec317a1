import { ValidationError } from "../../errors.ts";
import { isRecord } from "../../internal/json.ts";
import { nearestName } from "../../internal/suggest.ts";
import { tryJson } from "../exact_numbers.ts";
import {
  type Found,
  type ReadAnswer,
  sortedOut,
  thoughtMarks,
  type ToolCallFault,
  withoutEndTokens,
} from "./answer.ts";
import type { ToolCallFormat } from "./call_format.ts";
import { listMarks, toolCallFormats } from "./formats.ts";
import { beginsAsHarmony, isHarmony, readHarmony } from "./harmony.ts";
import { jsonCalls } from "./json_calls.ts";
import { jsonPieces } from "./json_values.ts";
import { marksOf } from "./model_marks.ts";
import { describedTool, parameterKinds } from "./parameter_kinds.ts";
import { onlyPythonCalls, pythonCalls } from "./python_calls.ts";
import { takeApart } from "./take_apart.ts";
import { unreadCalls } from "./unread_calls.ts";

/** How to read an answer. */
export interface ReadAnswerOptions {
  /** Tools as they were given to the model: the schemas of their
   * parameters say what a value between tags is. */
  readonly tools?: readonly unknown[] | undefined;
  /** Whether the prompt ended inside the model's thoughts. Default `false`. */
  readonly isThinking?: boolean | undefined;
  /**
   * Ways in which the model writes calls. Those of other families are then words like others. Default
   * all that have a mark of their own, and bare JSON as Llama 3.1 writes it. A wrapper knows it of the
   * model's template and tokens.
   */
  readonly formats?: readonly ToolCallFormat[] | null | undefined;
  /**
   * Marks that open the model's thoughts, such as `"[THINK]"`; `<think>` always does. Default all that
   * are known.
   */
  readonly thoughts?: readonly string[] | null | undefined;
  /** Cancels a reader that asks others. */
  readonly signal?: AbortSignal | undefined;
  /** Told how many characters were looked at, for tests. */
  readonly onLooked?: ((characters: number) => void) | undefined;
}

/** Reads the text of an answer: thoughts, what is said, calls of tools. */
export type AnswerReader = (
  text: string,
  options: ReadAnswerOptions,
) => ReadAnswer | Promise<ReadAnswer>;

/**
 * Takes an answer apart: thoughts, what is said, and calls of tools in the spellings of Hermes and
 * Qwen, Qwen3-Coder, GLM, Mistral, DeepSeek, Kimi, Llama 3.1 and 4, gpt-oss, Gemma 4, LFM2, Granite and
 * Phi-4, Nemotron, Cohere, MiniMax, Muse, OLMo, Seed-OSS, Hunyuan, InternLM, Step, Apertus and others.
 * Nothing inside thoughts or code is a call. What looks like
 * a call and is none is a fault with its reason. It takes time in proportion to the length of the text.
 *
 * @example
 * ```ts
 * import { readAnswer } from "@sglang-rl/sglang-rl/chat";
 *
 * const { calls } = readAnswer('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>');
 * calls[0]?.name; // "add"
 * ```
 */
export function readAnswer(text: string, options: ReadAnswerOptions = {}): ReadAnswer {
  const { tools, isThinking = false, formats = null, thoughts = null, onLooked } = options;
  checkMarks(formats, thoughts);
  const isChanneled = formats === null
    ? beginsAsHarmony(text)
    : formats.includes("gpt-oss") && isHarmony(text);
  if (isChanneled) return readHarmony(text);
  // First, so that no mark that an argument quotes is taken for a call or for a thought.
  const behind = behindThoughts(text, isThinking);
  const whole = behind && bareCalls(behind.rest, { formats, tools });
  if (behind && whole) return { reasoning: behind.reasoning, content: "", ...sortedOut(whole) };
  const kinds = parameterKinds(tools);
  const marks = marksOf({ formats, thoughts });
  const { reasoning, rest, said, found, looked } = takeApart(text, { isThinking, kinds, marks });
  onLooked?.(looked);
  let content = said;
  // In code they are a quote.
  if (!/[`~]/.test(content)) {
    for (const mark of listMarks) {
      if (content.includes(mark)) content = content.replaceAll(mark, "");
    }
  }
  if (found.length === 0) {
    const bare = bareCalls(rest, { formats, tools });
    if (bare !== null) return { reasoning, content: "", ...sortedOut(bare) };
    const foreign = foreignCalls(rest, { formats, tools }) ?? unreadCalls(rest, tools);
    if (foreign !== null) {
      return { reasoning, content: content.trim(), calls: [], faults: foreign };
    }
  }
  return { reasoning, content: content.trim(), ...sortedOut(found) };
}

function checkMarks(
  formats: readonly ToolCallFormat[] | null,
  thoughts: readonly string[] | null,
): void {
  for (const name of formats ?? []) checkKnown("formats", name, toolCallFormats);
  for (const mark of thoughts ?? []) {
    checkKnown(
      "thoughts",
      mark,
      thoughtMarks.map(([open]) => open),
    );
  }
}

function checkKnown(option: string, name: unknown, known: readonly string[]): void {
  if (known.includes(name as string)) return;
  const near = typeof name === "string" ? nearestName(name, known) : null;
  throw new ValidationError(
    `${option} has ${JSON.stringify(name)}, which is not known${
      near ? `; did you mean ${JSON.stringify(near)}?` : ""
    } Known are ${known.join(", ")}`,
  );
}

/** What stands behind the thoughts that an answer begins with; `null` where they do not end. */
function behindThoughts(
  text: string,
  isThinking: boolean,
): { readonly reasoning: string | null; readonly rest: string } | null {
  const lead = text.length - text.trimStart().length;
  const opened = thoughtMarks.find(([open]) => text.startsWith(open, lead));
  if (!isThinking && opened === undefined) return { reasoning: null, rest: text };
  const start = opened === undefined ? 0 : lead + opened[0].length;
  const [, close] = opened ?? thoughtMarks[0]!;
  const end = text.indexOf(close, start);
  if (end < 0) return null;
  return { reasoning: text.slice(start, end).trim(), rest: text.slice(end + close.length) };
}

interface BareOptions {
  readonly formats: readonly ToolCallFormat[] | null;
  readonly tools: readonly unknown[] | undefined;
}

/**
 * Calls without a mark: a whole answer that is an object with name and parameters, as Llama 3.1 writes
 * it, or a list of calls in Python's syntax, as Llama 4 does. Where it is not known that the model
 * writes so, it must name a tool that was given.
 */
function bareCalls(text: string, { formats, tools }: BareOptions): Found[] | null {
  const plain = text.trim();
  const isOf = (format: ToolCallFormat) => formats === null || formats.includes(format);
  const found = isOf("llama3") && /^(?:\[\s*)?\{\s*"/.test(plain)
    ? bareJson(plain)
    : isOf("pythonic") && plain.startsWith("[")
    ? barePython(plain, formats !== null)
    : null;
  if (found === null || formats !== null || tools === undefined || tools.length === 0) return found;
  const names = new Set(tools.map((tool) => describedTool(tool).name));
  return found.some((one) => "fault" in one || names.has(one.call.name)) ? found : null;
}

/**
 * Calls of given tools in the spelling of another family. They are not run, for the model's own marks
 * are others, but neither are they an answer: whoever reads the faults can tell the model.
 */
function foreignCalls(
  text: string,
  { formats, tools = [] }: BareOptions,
): ToolCallFault[] | null {
  if (formats === null || tools.length === 0) return null;
  const names = new Set(tools.map((tool) => describedTool(tool).name));
  const marks = marksOf({ formats: null, thoughts: [] });
  const { found } = takeApart(text, { isThinking: false, kinds: parameterKinds(tools), marks });
  const all = found.length > 0 ? found : bareCalls(text, { formats: null, tools }) ?? [];
  const named = (one: Found) =>
    "call" in one
      ? names.has(one.call.name)
      : names.values().some((name) => typeof name === "string" && one.fault.text.includes(name));
  if (!all.some(named)) return null;
  const reason =
    `a tool is called in another way than this model's, which is ${formats.join(" or ")}; ` +
    "the option toolCallFormats names others";
  return [{ text: text.trim().slice(0, 500), reason }];
}

function bareJson(plain: string): Found[] | null {
  const found = jsonCalls(plain);
  // What begins as a call does and is none is a fault; other JSON is an answer.
  const beginsAsCall = /^(?:\[\s*)?\{\s*"(?:name|type|parameters|arguments)"\s*:/.test(plain) ||
    /"name"\s*:/.test(plain) && /"(?:parameters|arguments)"\s*:/.test(plain);
  if (found.some((one) => "fault" in one)) return beginsAsCall ? found : null;
  const pieces = [...jsonPieces(withoutEndTokens(plain))].flatMap(({ text }) =>
    tryJson(text)?.value
  );
  const areCalls = pieces.every((one) =>
    isRecord(one) && (Object.hasOwn(one, "parameters") || Object.hasOwn(one, "arguments"))
  );
  return areCalls ? found : null;
}

/** Where the model is known to write so, what begins as such a list and is none is a fault. */
function barePython(plain: string, isKnown: boolean): Found[] | null {
  const text = withoutEndTokens(plain);
  const { found = [], end } = pythonCalls(text);
  if (found.length > 0 && end === text.length) return found;
  return isKnown && /^\[\s*[A-Za-z_][\w.]*\(/.test(text) ? onlyPythonCalls(text) : null;
}
