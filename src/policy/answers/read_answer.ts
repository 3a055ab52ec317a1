import type { ToolCall } from "../message.ts";
import { type Found, jsonCall, type ReadAnswer, type TextParameters } from "./answer.ts";
import { jsonCalls, listMarks } from "./formats.ts";
import { isHarmony, readHarmony } from "./harmony.ts";
import { takeApart } from "./take_apart.ts";

/** How to read an answer. */
export interface ReadAnswerOptions {
  /** Tools as they were given to the model: parameters that are texts stay texts. */
  readonly tools?: readonly unknown[] | undefined;
  /** Whether the prompt ended inside the model's thoughts. Default `false`. */
  readonly isThinking?: boolean | undefined;
  /**
   * All special tokens of the model, where they are known. The channels of gpt-oss are then read only
   * if the model has them: others may quote them.
   */
  readonly wholeTokens?: readonly string[] | undefined;
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
 * Qwen, Qwen3-Coder, GLM, Mistral, DeepSeek, Kimi, Llama 3.1 and gpt-oss. Nothing inside thoughts is
 * a call. What looks like a call and is none is a fault with its reason. It takes time in proportion
 * to the length of the text.
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
  const { tools, isThinking = false, wholeTokens = [], onLooked } = options;
  const mayBeHarmony = wholeTokens.length === 0 || wholeTokens.includes("<|channel|>");
  if (mayBeHarmony && isHarmony(text)) return readHarmony(text);
  const texts = textParameters(tools);
  const { reasoning, rest, said, found, looked } = takeApart(text, { isThinking, texts });
  onLooked?.(looked);
  let content = said;
  for (const mark of listMarks) if (content.includes(mark)) content = content.replaceAll(mark, "");
  if (found.length === 0) {
    const bare = bareCalls(rest);
    if (bare !== null) return taken(bare, { reasoning, content: "" });
  }
  return taken(found, { reasoning, content: content.trim() });
}

/** Llama 3.1 writes a call as bare JSON: a whole answer that is an object with name and parameters. */
function bareCalls(text: string): Found[] | null {
  const plain = text.trim();
  if (!/^\{\s*"(?:name|type|parameters|arguments)"\s*:/.test(plain)) return null;
  const found = jsonCalls(plain);
  const isCall = /"(?:parameters|arguments)"\s*:/.test(plain) || "fault" in jsonCall(plain);
  return isCall ? found : null;
}

function taken(
  found: readonly Found[],
  rest: { reasoning: string | null; content: string },
): ReadAnswer {
  return {
    ...rest,
    calls: found.flatMap((one): ToolCall[] => "call" in one ? [one.call] : []),
    faults: found.flatMap((one) => "fault" in one ? [one.fault] : []),
  };
}

const noTexts: ReadonlySet<string> = new Set();

/** Names of the parameters of each tool that are texts, whatever they look like. */
function textParameters(tools: readonly unknown[] | undefined): TextParameters {
  const known = new Map<string, ReadonlySet<string>>();
  for (const tool of tools ?? []) {
    const { function: described = tool } = tool as { function?: unknown };
    const { name, parameters } = (described ?? {}) as {
      name?: unknown;
      parameters?: { properties?: Record<string, { type?: unknown }> };
    };
    if (typeof name !== "string") continue;
    const properties = Object.entries(parameters?.properties ?? {});
    known.set(name, new Set(properties.flatMap(([key, of]) => of?.type === "string" ? [key] : [])));
  }
  return (tool) => known.get(tool) ?? noTexts;
}
