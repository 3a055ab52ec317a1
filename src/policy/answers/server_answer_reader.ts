import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import type {
  ParsedFunctionCalls,
  ParseFunctionCallOptions,
  SeparatedReasoning,
  SeparateReasoningOptions,
} from "../../client/types.ts";
import { HttpError, ValidationError } from "../../errors.ts";
import {
  fault,
  namedCall,
  type ReadAnswer,
  sortedOut,
  type ToolCallFault,
  withoutEndTokens,
} from "./answer.ts";
import { isHarmony } from "./harmony.ts";
import { unknownKind } from "./parameter_kinds.ts";
import { type AnswerReader, readAnswer, type ReadAnswerOptions } from "./read_answer.ts";
import { marksOf } from "./model_marks.ts";
import { type Marks, takeApart } from "./take_apart.ts";

/** Who reads answers: an engine, or a client of one server. */
export interface AnswerServer {
  /** Calls of tools in a text. */
  parseFunctionCall(text: string, options: ParseFunctionCallOptions): Promise<ParsedFunctionCalls>;
  /** Takes the thoughts out of a text. */
  separateReasoning(text: string, options: SeparateReasoningOptions): Promise<SeparatedReasoning>;
}

/** Options of {@linkcode serverAnswerReader}. */
export interface ServerAnswerReaderOptions {
  /** An engine or a client. It is asked for each answer, and not closed. */
  readonly server: AnswerServer;
  /**
   * How the model writes calls: a name that the server's `--tool-call-parser` knows. Unset: calls are
   * read here.
   */
  readonly toolCallParser?: string | undefined;
  /**
   * How the model marks its thoughts: a name that the server's `--reasoning-parser` knows. Unset:
   * thoughts are found here.
   */
  readonly reasoningParser?: string | undefined;
  /** Deadline of one request, in milliseconds. Default that of the server's client, 30 s. */
  readonly timeoutMs?: number | undefined;
}

const NAMES = {
  server: true,
  toolCallParser: true,
  reasoningParser: true,
  timeoutMs: true,
} as const satisfies OptionNames<ServerAnswerReaderOptions>;

/**
 * A reader of answers that asks the server's own parsers, for the option `readAnswer` of a wrapper:
 * one request for the thoughts, one for the calls. Thoughts go first and are not looked into. What
 * looks like a call and is none to the server, such as a call of a tool that was not given, is a
 * fault. An answer on which a parser of the server fails is read here, and its calls are a fault.
 *
 * Without `tools` among the variables of the template SGLang finds no calls: they are then read here.
 *
 * @example
 * ```ts
 * import { AsyncSGLang } from "@sglang-rl/sglang-rl/engine";
 * import { serverAnswerReader } from "@sglang-rl/sglang-rl/chat";
 * import { SGLangWrapper } from "@sglang-rl/sglang-rl/policy";
 *
 * await using engine = await AsyncSGLang.connect("http://127.0.0.1:30000");
 * const policy = new SGLangWrapper(engine, {
 *   readAnswer: serverAnswerReader({
 *     server: engine,
 *     toolCallParser: "qwen25",
 *     reasoningParser: "qwen3",
 *   }),
 * });
 * ```
 *
 * @throws {ValidationError} No parser is named, or the server is none.
 */
export function serverAnswerReader(options: ServerAnswerReaderOptions): AnswerReader {
  checkOptionNames(options, NAMES, "serverAnswerReader()");
  const { server, toolCallParser, reasoningParser } = options;
  if (toolCallParser === undefined && reasoningParser === undefined) {
    throw new ValidationError("serverAnswerReader() needs a toolCallParser or a reasoningParser");
  }
  if (typeof server?.parseFunctionCall !== "function") {
    throw new ValidationError("server must be an engine or an SGLangClient");
  }
  const parsers = new ServerParsers(options);
  return async (text, reading) => {
    const { own, reasoning, rest } = await parsers.thoughts(text, reading);
    const { tools = [], signal } = reading;
    const calls = toolCallParser === undefined || tools.length === 0 || rest.trim() === ""
      ? { calls: own.calls, faults: own.faults, content: own.content }
      : await parsers.calls(rest, { own, tools, signal });
    return { reasoning, ...calls };
  };
}

/** Only the thoughts are of interest. */
const noKinds = () => unknownKind;

type Calls = Omit<ReadAnswer, "reasoning">;

class ServerParsers {
  readonly #options: ServerAnswerReaderOptions;
  /** Parsers that are known to answer; it is asked for only after one failed. */
  readonly #known = new Set<string>();

  constructor(options: ServerAnswerReaderOptions) {
    this.#options = options;
  }

  /** Thoughts, the rest, and how the rest is read here. */
  async thoughts(
    text: string,
    reading: ReadAnswerOptions,
  ): Promise<{ own: ReadAnswer; reasoning: string | null; rest: string }> {
    const { server, reasoningParser, timeoutMs } = this.#options;
    const { tools, isThinking = false, signal, formats, thoughts } = reading;
    const known = { tools, formats, thoughts };
    const marks = marksOf({ formats: formats ?? null, thoughts: thoughts ?? null });
    if (reasoningParser !== undefined) {
      const ask = (asked: string) =>
        server.separateReasoning(asked, { reasoningParser, timeoutMs, signal });
      // The prompt has opened the thoughts; a parser must not depend on it to know.
      const isOpened = isThinking && !text.trimStart().startsWith("<think>");
      const answer = await this.#ask(reasoningParser, ask, isOpened ? `<think>${text}` : text);
      if (answer !== null) {
        const local = isHarmony(text)
          ? null
          : takeApart(text, { isThinking, kinds: noKinds, marks });
        if (local !== null && local.reasoning !== null && local.rest.trim() === "") {
          return endlessThought(local.reasoning, answer.text);
        }
        // A parser of another family leaves thoughts in the text: no call in them is run.
        const own = readAnswer(answer.text, known);
        const thought = [answer.reasoningText?.trim(), own.reasoning].filter(Boolean);
        const reasoning = thought.length === 0 ? null : thought.join("\n");
        return { own, reasoning, rest: withoutThoughts(answer.text, { isThinking: false, marks }) };
      }
    }
    const own = readAnswer(text, { ...known, isThinking });
    return { own, reasoning: own.reasoning, rest: withoutThoughts(text, { isThinking, marks }) };
  }

  /** The calls in a text without thoughts. */
  async calls(
    rest: string,
    { own, tools, signal }: {
      own: ReadAnswer;
      tools: readonly unknown[];
      signal: AbortSignal | undefined;
    },
  ): Promise<Calls> {
    const { server, timeoutMs } = this.#options;
    const toolCallParser = this.#options.toolCallParser!;
    const ask = (asked: string) =>
      server.parseFunctionCall(asked, { tools, toolCallParser, timeoutMs, signal });
    const parsed = await this.#ask(toolCallParser, ask, rest);
    if (parsed === null) {
      const reason = `the server's parser "${toolCallParser}" failed on this answer`;
      return { calls: [], content: own.content, faults: [fault(rest, reason).fault] };
    }
    const { normalText: said } = parsed;
    const found = parsed.calls.map(({ name, parameters }) =>
      namedCall(name ?? "", parameters, `${name ?? ""} ${parameters}`)
    );
    const unread = notTaken(own, parsed, toolCallParser);
    const isCut = withoutEndTokens(said) !== withoutEndTokens(rest);
    if (found.length === 0 && unread.length === 0 && isCut) {
      const reason = `the server's parser "${toolCallParser}" saw a call and could not read it`;
      unread.push(fault(rest, reason).fault);
    }
    const { calls, faults } = sortedOut(found);
    return { calls, faults: [...faults, ...unread], content: said.trim() };
  }

  /**
   * Asks a parser; `null` where it fails on this text alone. SGLang answers a name that it does not
   * know with the same 500, and that is the caller's fault: a short text tells the two apart.
   */
  async #ask<T>(
    parser: string,
    ask: (text: string) => Promise<T>,
    text: string,
  ): Promise<T | null> {
    try {
      return await ask(text);
    } catch (error) {
      if (!(error instanceof HttpError) || error.status !== 500) throw error;
      if (!this.#known.has(parser)) {
        const isKnown = await ask("a").then(() => true, () => false);
        if (!isKnown) throw error;
        this.#known.add(parser);
      }
      return null;
    }
  }
}

/** Messages in channels are taken apart by whoever reads the calls; nothing in a thought is one. */
function withoutThoughts(text: string, how: { isThinking: boolean; marks: Marks }): string {
  return isHarmony(text) ? text : takeApart(text, { ...how, kinds: noKinds }).rest;
}

/** SGLang ends thoughts that have no end at the first call in them; it is no call, and told. */
function endlessThought(reasoning: string, rest: string) {
  const found = readAnswer(rest);
  const reason = "it stands in thoughts that have no end";
  const faults = found.calls.length + found.faults.length === 0 ? [] : [fault(rest, reason).fault];
  return {
    own: { reasoning, content: "", calls: [], faults },
    reasoning,
    rest: "",
  };
}

/** What looks like a call here and was none to the server. */
function notTaken(own: ReadAnswer, { calls }: ParsedFunctionCalls, parser: string) {
  if (own.calls.length + own.faults.length <= calls.length) return [];
  const taken = new Map<string | null, number>();
  for (const { name } of calls) taken.set(name, (taken.get(name) ?? 0) + 1);
  const reason =
    `the server's parser "${parser}" did not take it for a call: is it of a tool that ` +
    "was given, and as this model writes calls?";
  const missed = own.calls.flatMap((call): ToolCallFault[] => {
    const left = taken.get(call.name) ?? 0;
    taken.set(call.name, left - 1);
    return left > 0 ? [] : [fault(JSON.stringify(call), reason).fault];
  });
  return [...missed, ...own.faults];
}
