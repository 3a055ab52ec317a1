import {
  APICallError,
  type LanguageModelV3,
  type LanguageModelV4,
  type LanguageModelV4Content,
  type LanguageModelV4FinishReason,
  type LanguageModelV4StreamPart,
  type LanguageModelV4Usage,
  type SharedV4ProviderMetadata,
  type SharedV4Warning,
} from "@ai-sdk/provider";
import {
  askChat,
  type ChatChoice,
  type ChatChunk,
  type ChatIds,
  type ChatRefusal,
  type ChatSaid,
  type ChatUsage,
  streamChat,
} from "../gateway/in_process.ts";
import type { GatewaySession, RecordingGateway } from "../gateway/mod.ts";
import { bodyOf } from "./prompt.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Whose answers they are: a session of a gateway in this process. */
export interface LanguageModelSource {
  /** The gateway. */
  readonly gateway: RecordingGateway;
  /** The session that records the answers. */
  readonly session: Pick<GatewaySession, "baseUrl" | "key">;
}

/** Options of {@linkcode languageModel}. */
export interface LanguageModelOptions {
  /** Name of the policy among the gateway's `models`. Default `policy`. */
  readonly model?: string | undefined;
  /** Which specification it follows: `v4` (default), or the one before. */
  readonly specification?: "v4" | "v3" | undefined;
}

const OPTION_NAMES = {
  model: true,
  specification: true,
} as const satisfies OptionNames<LanguageModelOptions>;

/**
 * A language model of the Vercel AI SDK that asks a gateway in this process, without
 * a connection. Each answer is recorded in the session, as if it had come over HTTP, and has
 * `providerMetadata["sglang-rl"]`: `answer` (the id by which a reward can be given), `promptIds`,
 * `responseIds`, `logProbs`, `weightVersion` and `weightVersions`.
 *
 * Fields without effect are warnings. Refusals are `APICallError`s, which the SDK tries again where that
 * may help. `providerOptions["sglang-rl"]` holds further fields of `/v1/chat/completions`.
 *
 * @example
 * ```ts ignore
 * import { generateText } from "ai";
 *
 * const session = gateway.open();
 * const model = languageModel({ gateway, session });
 * const { text, providerMetadata } = await generateText({ model, prompt: "Hello" });
 * session.reward(text.length, { answer: String(providerMetadata!["sglang-rl"]!.answer) });
 * ```
 */
export function languageModel(
  source: LanguageModelSource,
  options: LanguageModelOptions & { readonly specification: "v3" },
): LanguageModelV3;
/** The same by the present specification. */
export function languageModel(
  source: LanguageModelSource,
  options?: LanguageModelOptions & { readonly specification?: "v4" | undefined },
): LanguageModelV4;
export function languageModel(
  source: LanguageModelSource,
  options: LanguageModelOptions = {},
): LanguageModelV4 | LanguageModelV3 {
  checkOptionNames(options, OPTION_NAMES, "languageModel()");
  const model = present(source, options.model ?? "policy");
  if (options.specification !== "v3") return model;
  // What is used here of calls and answers has the same form in both.
  return { ...model, specificationVersion: "v3" } as unknown as LanguageModelV3;
}

function present(source: LanguageModelSource, modelId: string): LanguageModelV4 {
  return {
    specificationVersion: "v4",
    provider: "sglang-rl",
    modelId,
    supportedUrls: {},
    async doGenerate(call) {
      const { body, warnings } = bodyOf(modelId, call);
      const settings = { signal: call.abortSignal, refuse: refusing(body) };
      const { answer, ignored, headers } = await askChat(source, body, settings);
      const [choice] = answer.choices;
      return {
        content: contentOf(choice!.message),
        finishReason: finishOf(choice!.finish_reason),
        usage: usageOf(answer.usage),
        providerMetadata: metadataOf(answer.id, choice!),
        request: { body },
        response: { ...metadataOfAnswer(answer), headers, body: answer },
        warnings: [...warnings, ...ignored.map(withoutEffect)],
      };
    },
    async doStream(call) {
      const { body, warnings } = bodyOf(modelId, call);
      const settings = { signal: call.abortSignal, refuse: refusing(body) };
      const { answer, ignored, headers } = await streamChat(source, body, settings);
      const told = [...warnings, ...ignored.map(withoutEffect)];
      const parts = partsOf(answer, { warnings: told, isRaw: call.includeRawChunks === true });
      return { stream: ReadableStream.from(parts), request: { body }, response: { headers } };
    },
  };
}

function refusing(body: unknown): (refusal: ChatRefusal) => Error {
  return ({ message, url, status, body: responseBody, headers }) =>
    new APICallError({
      message,
      url,
      requestBodyValues: body,
      statusCode: status,
      responseHeaders: { ...headers },
      responseBody,
      isRetryable: status === 408 || status === 409 || status === 429 || status >= 500,
    });
}

function contentOf(said: ChatSaid): LanguageModelV4Content[] {
  const { content, reasoning_content: reasoning = "", tool_calls: calls = [] } = said;
  return [
    ...(reasoning === "" ? [] : [{ type: "reasoning" as const, text: reasoning }]),
    ...(content ? [{ type: "text" as const, text: content }] : []),
    ...calls.map(({ id, function: { name, arguments: input } }) => ({
      type: "tool-call" as const,
      toolCallId: id,
      toolName: name,
      input,
    })),
  ];
}

/** A stream of chunks as the SDK's parts; calls come whole, as the gateway tells them. */
async function* partsOf(
  chunks: AsyncIterable<ChatChunk>,
  { warnings, isRaw }: { readonly warnings: SharedV4Warning[]; readonly isRaw: boolean },
): AsyncGenerator<LanguageModelV4StreamPart, void, void> {
  yield { type: "stream-start", warnings };
  let open: "text" | "reasoning" | null = null;
  let last: { readonly id: string; readonly choice: ChatChoice } | null = null;
  let usage: ChatUsage | null = null;
  let isFirst = true;
  const say = function* (
    kind: "text" | "reasoning" | null,
    delta: string,
  ): Generator<LanguageModelV4StreamPart> {
    if (open !== kind) {
      if (open !== null) yield { type: `${open}-end`, id: open };
      open = kind;
      if (kind !== null) yield { type: `${kind}-start`, id: kind };
    }
    if (kind !== null) yield { type: `${kind}-delta`, id: kind, delta };
  };
  for await (const chunk of chunks) {
    if (isRaw) yield { type: "raw", rawValue: chunk };
    if (isFirst) yield { type: "response-metadata", ...metadataOfAnswer(chunk) };
    isFirst = false;
    usage = chunk.usage ?? usage;
    const [choice] = chunk.choices;
    if (choice === undefined) continue;
    const { content, reasoning_content: reasoning, tool_calls: calls = [] } = choice.delta;
    if (reasoning) yield* say("reasoning", reasoning);
    if (content) yield* say("text", content);
    for (const { id, function: { name, arguments: input } } of calls) {
      yield* say(null, "");
      yield { type: "tool-input-start", id, toolName: name };
      yield { type: "tool-input-delta", id, delta: input };
      yield { type: "tool-input-end", id };
      yield { type: "tool-call", toolCallId: id, toolName: name, input };
    }
    if (choice.finish_reason !== null) last = { id: chunk.id, choice };
  }
  yield* say(null, "");
  if (last === null || usage === null) throw new Error("The stream ended without its last part");
  yield {
    type: "finish",
    usage: usageOf(usage),
    finishReason: finishOf(last.choice.finish_reason),
    providerMetadata: metadataOf(last.id, last.choice),
  };
}

function metadataOfAnswer(
  { id, created, model }: Pick<ChatChunk, "id" | "created" | "model">,
): { id: string; timestamp: Date; modelId: string } {
  return { id, timestamp: new Date(created * 1000), modelId: model };
}

function metadataOf(answer: string, ids: ChatIds): SharedV4ProviderMetadata {
  return {
    "sglang-rl": {
      answer,
      promptIds: [...ids.prompt_token_ids ?? []],
      responseIds: [...ids.response_token_ids ?? []],
      logProbs: [...ids.response_log_probs ?? []],
      weightVersion: ids.weight_version ?? null,
      weightVersions: (ids.weight_versions ?? null) as null,
    },
  };
}

function finishOf(reason: ChatChoice["finish_reason"]): LanguageModelV4FinishReason {
  const unified = reason === "tool_calls" ? "tool-calls" : reason ?? "other";
  return { unified, raw: reason ?? undefined };
}

function usageOf(usage: ChatUsage): LanguageModelV4Usage {
  const { prompt_tokens: prompt, completion_tokens: completion } = usage;
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  return {
    inputTokens: {
      total: prompt,
      noCache: prompt - cached,
      cacheRead: cached,
      cacheWrite: undefined,
    },
    outputTokens: { total: completion, text: undefined, reasoning: undefined },
  };
}

function withoutEffect(field: string): SharedV4Warning {
  return { type: "unsupported", feature: field, details: "It has no effect here" };
}
