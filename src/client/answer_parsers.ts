/** The server's own readers of answers: what they are asked, and what they say. */
import { z } from "zod";
import { HttpError, UnsupportedError, ValidationError } from "../errors.ts";
import { checked } from "./server_info.ts";
import type {
  ParsedFunctionCalls,
  ParseFunctionCallOptions,
  SeparatedReasoning,
  SeparateReasoningOptions,
} from "./types.ts";

/** `/parse_function_call`. */
const functionCalls = z.looseObject({
  normal_text: z.string().nullish(),
  calls: z.array(z.looseObject({
    tool_index: z.number().int(),
    name: z.string().nullish(),
    parameters: z.string(),
  })),
});

/** `/separate_reasoning`. */
const separatedReasoning = z.looseObject({
  reasoning_text: z.string().nullish(),
  text: z.string().nullish(),
});

/** One question to a reader of the server. */
export interface ParserQuestion<T> {
  /** Where it is asked. */
  readonly path: string;
  /** What is asked. */
  readonly body: Readonly<Record<string, unknown>>;
  /** Takes the answer. */
  readonly read: (answer: unknown) => T;
  /** What an error of the server means here. */
  readonly explain: (error: unknown) => unknown;
}

/** Asks for the calls in a text. */
export function functionCallQuestion(
  text: string,
  { tools, toolCallParser }: ParseFunctionCallOptions,
): ParserQuestion<ParsedFunctionCalls> {
  checkText("text", text);
  checkName("toolCallParser", toolCallParser);
  const path = "/parse_function_call";
  return {
    path,
    body: { text, tools: wireTools(tools), tool_call_parser: toolCallParser },
    read: (answer) => {
      const { normal_text, calls } = checked(functionCalls, answer, `POST ${path}`);
      return {
        normalText: normal_text ?? "",
        calls: calls.map(({ tool_index, name, parameters }) => ({
          toolIndex: tool_index,
          name: name ?? null,
          parameters,
        })),
      };
    },
    explain: (error) =>
      explained(error, { path, flag: "--tool-call-parser", name: toolCallParser }),
  };
}

/** Asks for the thoughts in a text. */
export function reasoningQuestion(
  text: string,
  { reasoningParser }: SeparateReasoningOptions,
): ParserQuestion<SeparatedReasoning> {
  checkText("text", text);
  checkName("reasoningParser", reasoningParser);
  const path = "/separate_reasoning";
  return {
    path,
    body: { text, reasoning_parser: reasoningParser },
    read: (answer) => {
      const { reasoning_text, text } = checked(separatedReasoning, answer, `POST ${path}`);
      return { reasoningText: reasoning_text || null, text: text ?? "" };
    },
    explain: (error) =>
      explained(error, { path, flag: "--reasoning-parser", name: reasoningParser }),
  };
}

/** The server takes `{ type, function: { name, … } }` only; templates take the function alone too. */
function wireTools(tools: readonly unknown[]): unknown[] {
  if (!Array.isArray(tools)) throw new ValidationError("tools must be a list of tools");
  return tools.map((tool, index) => {
    const isObject = typeof tool === "object" && tool !== null;
    const described = isObject ? tool.function ?? tool : undefined;
    if (typeof described?.name !== "string" || described.name === "") {
      throw new ValidationError(
        `tools[${index}] must be { type: "function", function: { name, parameters } }: it has no name`,
      );
    }
    return tool.function === undefined
      ? { type: "function", function: tool }
      : { type: "function", ...tool };
  });
}

function checkText(name: string, value: unknown): void {
  if (typeof value === "string") return;
  throw new ValidationError(`${name} must be a string, got ${typeof value}`);
}

function checkName(name: string, value: unknown): void {
  if (typeof value === "string" && value !== "") return;
  throw new ValidationError(
    `${name} must name a parser of the server, such as "qwen3", got ${JSON.stringify(value)}`,
  );
}

/** SGLang answers a name that it does not know with a bare 500, as any fault of a parser. */
function explained(
  error: unknown,
  { path, flag, name }: { path: string; flag: string; name: string },
): unknown {
  if (!(error instanceof HttpError)) return error;
  const { status, endpoint, serverMessage } = error;
  if (status === 404) {
    return new UnsupportedError(
      `The server has no ${path}: ask an SGLang server itself, no router, and not the embedded ` +
        "server. readAnswer() of ./policy reads answers without a server",
      { cause: error },
    );
  }
  if (status !== 500) return error;
  return new HttpError(
    `${error.message}. Is "${name}" a parser of this server's version? Its names are those of ` +
      `${flag}. If it is, the parser failed on this text`,
    { status, endpoint, serverMessage, cause: error },
  );
}
