import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import type { BaseLanguageModelInput } from "@langchain/core/language_models/base";
import {
  BaseChatModel,
  type BaseChatModelCallOptions,
  type BindToolsInput,
} from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, type BaseMessage } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import type { Runnable } from "@langchain/core/runnables";
import { convertToOpenAITool } from "@langchain/core/utils/function_calling";
import {
  askChat,
  type ChatCall,
  type ChatChoice,
  type ChatRefusal,
  type ChatUsage,
  streamChat,
} from "../gateway/in_process.ts";
import { GatewayRefusal, type GatewaySession, type RecordingGateway } from "../gateway/mod.ts";
import { isRecord } from "../internal/json.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { chatMessagesOf } from "./messages.ts";

type Json = Readonly<Record<string, unknown>>;

/** Options of {@linkcode RecordedChatModel}. */
export interface RecordedChatModelOptions {
  /** The gateway, in this process. */
  readonly gateway: RecordingGateway;
  /** The session that records the answers. */
  readonly session: Pick<GatewaySession, "baseUrl" | "key">;
  /** Name of the policy among the gateway's `models`. Default `policy`. */
  readonly model?: string | undefined;
  /** Fields of each request as `/v1/chat/completions` has them, for example `{ temperature: 1 }`. */
  readonly fields?: Readonly<Record<string, unknown>> | undefined;
}

const OPTION_NAMES = {
  gateway: true,
  session: true,
  model: true,
  fields: true,
} as const satisfies OptionNames<RecordedChatModelOptions>;

/** Options of one call. */
export interface RecordedChatModelCallOptions extends BaseChatModelCallOptions {
  /** Tools in OpenAI's shape; `bindTools` makes them. */
  tools?: Readonly<Record<string, unknown>>[];
  /** Further fields of `/v1/chat/completions`. */
  fields?: Readonly<Record<string, unknown>>;
}

/**
 * A chat model of LangChain.js that asks a gateway in this process, without a connection. Each answer
 * is recorded in the session, as if it had come over HTTP, and its `response_metadata` has `answer`
 * (the id by which a reward can be given), `promptIds`, `responseIds`, `logProbs`, `weightVersion` and
 * `weightVersions`.
 *
 * @throws {GatewayRefusal} A call that the gateway refuses.
 *
 * @example
 * ```ts ignore
 * const session = gateway.open();
 * const model = new RecordedChatModel({ gateway, session }).bindTools([search]);
 * const answer = await model.invoke("Hello");
 * session.reward(answer.text.length, { answer: answer.response_metadata.answer });
 * ```
 */
export class RecordedChatModel extends BaseChatModel<RecordedChatModelCallOptions, AIMessageChunk> {
  readonly #options: RecordedChatModelOptions;

  /** Asks nothing yet. */
  constructor(options: RecordedChatModelOptions) {
    // A refusal says itself when to try again; LangChain would try six times at once.
    super({ maxRetries: 0 });
    checkOptionNames(options, OPTION_NAMES, "a RecordedChatModel");
    this.#options = options;
  }

  /** Name of the kind of model, for traces. */
  override _llmType(): string {
    return "sglang-rl";
  }

  /** Offers tools; they may be LangChain's, or in OpenAI's shape. */
  override bindTools(
    tools: BindToolsInput[],
    kwargs: Partial<RecordedChatModelCallOptions> = {},
  ): Runnable<BaseLanguageModelInput, AIMessageChunk, RecordedChatModelCallOptions> {
    return this.withConfig({
      ...kwargs,
      tools: tools.map((tool) => ({ ...convertToOpenAITool(tool) })),
    });
  }

  /** Asks for a whole answer. */
  override async _generate(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
  ): Promise<ChatResult> {
    const { answer } = await askChat(this.#options, this.#bodyOf(messages, options), {
      signal: options.signal,
      refuse,
    });
    const generations = answer.choices.map((choice) => {
      const { content, tool_calls: calls = [], reasoning_content: reasoning } = choice.message;
      const text = content ?? "";
      const message = new AIMessage({
        id: answer.id,
        content: text,
        tool_calls: calls.map((call) => ({
          type: "tool_call" as const,
          id: call.id,
          name: call.function.name,
          args: argumentsOf(call),
        })),
        ...thoughts(reasoning),
        response_metadata: metadataOf(answer.id, choice),
      });
      // Its type hangs on the message's tools, which are not known here.
      Object.assign(message, { usage_metadata: usageOf(answer.usage) });
      return { text, message, generationInfo: { finish_reason: choice.finish_reason } };
    });
    return { generations };
  }

  /** Asks for a stream. */
  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const { answer: chunks } = await streamChat(this.#options, this.#bodyOf(messages, options), {
      signal: options.signal,
      refuse,
    });
    for await (const { id, choices, usage } of chunks) {
      const [choice] = choices;
      const { content, reasoning_content: reasoning, tool_calls: calls = [] } = choice?.delta ?? {};
      const text = content ?? "";
      const isLast = choice !== undefined && choice.finish_reason !== null;
      const message = new AIMessageChunk({
        id,
        content: text,
        tool_call_chunks: calls.map((call, index) => ({
          type: "tool_call_chunk" as const,
          index: (call as ChatCall & { readonly index?: number }).index ?? index,
          id: call.id,
          name: call.function.name,
          args: call.function.arguments,
        })),
        ...thoughts(reasoning),
        response_metadata: isLast ? metadataOf(id, choice) : {},
      });
      if (usage) Object.assign(message, { usage_metadata: usageOf(usage) });
      yield new ChatGenerationChunk({ text, message });
      await runManager?.handleLLMNewToken(text);
    }
  }

  #bodyOf(messages: readonly BaseMessage[], options: this["ParsedCallOptions"]): Json {
    const { model = "policy", fields } = this.#options;
    const { tools, tool_choice: choice, stop } = options;
    return {
      model,
      ...fields,
      ...options.fields,
      messages: chatMessagesOf(messages),
      ...(stop === undefined ? {} : { stop }),
      ...(tools === undefined ? {} : { tools }),
      ...(choice === undefined ? {} : { tool_choice: choiceOf(choice) }),
    };
  }
}

/** LangChain's words for which tool is to be called. */
function choiceOf(choice: NonNullable<BaseChatModelCallOptions["tool_choice"]>): unknown {
  if (typeof choice !== "string") return choice;
  if (choice === "any") return "required";
  if (choice === "auto" || choice === "none" || choice === "required") return choice;
  return { type: "function", function: { name: choice } };
}

function refuse({ message, status, headers }: ChatRefusal): GatewayRefusal {
  const after = headers["retry-after"];
  return new GatewayRefusal(message, {
    status,
    reason: "refused",
    ...(after === undefined ? {} : { retryAfterS: Number(after) }),
  });
}

function argumentsOf({ function: { arguments: json } }: ChatCall): Record<string, unknown> {
  const value: unknown = JSON.parse(json);
  return isRecord(value) ? value : { value };
}

function thoughts(
  reasoning: string | undefined,
): { additional_kwargs?: { reasoning_content: string } } {
  return reasoning === undefined ? {} : { additional_kwargs: { reasoning_content: reasoning } };
}

function usageOf(usage: ChatUsage): {
  input_tokens: number;
  output_tokens: number;
  total_tokens: number;
} {
  return {
    input_tokens: usage.prompt_tokens,
    output_tokens: usage.completion_tokens,
    total_tokens: usage.total_tokens,
  };
}

function metadataOf(answer: string, choice: ChatChoice): Record<string, unknown> {
  return {
    answer,
    finish_reason: choice.finish_reason,
    promptIds: choice.prompt_token_ids ?? [],
    responseIds: choice.response_token_ids ?? [],
    logProbs: choice.response_log_probs ?? [],
    weightVersion: choice.weight_version ?? null,
    weightVersions: choice.weight_versions ?? null,
  };
}
