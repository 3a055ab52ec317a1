/** `POST /v1/chat/completions`. */
import { isRecord } from "../../internal/json.ts";
import type { Asked, ToolChoice } from "../asked.ts";
import { openAICall } from "../assistant_message.ts";
import type { EventStream } from "../event_stream.ts";
import { type GatewayRefusal, invalid } from "../fault.ts";
import { newId } from "../ids.ts";
import type { RecordedTurn } from "../recorded_turn.ts";
import type { AnswerPart } from "../session.ts";
import {
  type AnswerWriter,
  type Api,
  finishReasonOf,
  isRetry,
  openAIUsage,
  shownTokens,
  type WriteContext,
} from "./api.ts";
import { chatMessages } from "./chat_messages.ts";
import {
  checkedTools,
  Fields,
  ignoredFields,
  ignoredOfTools,
  offeredTool,
  STREAM_FIELDS,
} from "./fields.ts";
import { openAIError } from "./openai_error.ts";
import { grammarField, grammarOf, SAMPLING_FIELDS, samplingOf } from "./sampling_fields.ts";

const FIELDS = {
  used: [
    "model",
    "messages",
    "tools",
    "tool_choice",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "response_format",
    "chat_template_kwargs",
    "return_token_ids",
    ...SAMPLING_FIELDS,
  ],
  ignored: [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
  ],
  refused: {
    functions: "give tools instead",
    function_call: "give tool_choice instead",
    audio: "audio is not supported",
    modalities: "only text is made",
    prediction: "predictions are not supported",
    web_search_options: "the gateway searches nothing; give a tool",
  },
};

const TOOL_FIELDS = { used: ["type", "function"], ignored: ["cache_control"] };
const FUNCTION_FIELDS = { used: ["name", "description", "parameters"], ignored: ["strict"] };

/** Most `top_logprobs`, as OpenAI has it. */
const MAX_TOP_LOGPROBS = 20;

/** OpenAI's chat API. */
export const chatCompletions: Api = {
  read(body, headers) {
    const plain = { ...body };
    if (isTextOnly(plain.modalities)) delete plain.modalities;
    const fields = new Fields(plain);
    const given = fields.objects("tools");
    const ignored = [
      ...ignoredFields(plain, FIELDS),
      ...ignoredOfTools(given, TOOL_FIELDS, "tools[]."),
      ...ignoredOfTools(
        given?.map((tool) => isRecord(tool.function) ? tool.function : {}),
        FUNCTION_FIELDS,
        "tools[].function.",
      ),
      ...ignoredFields(fields.object("stream_options") ?? {}, STREAM_FIELDS, "stream_options."),
    ];
    const hasLogProbs = fields.flag("logprobs") ?? false;
    const topLogProbs = fields.integer("top_logprobs", 0) ?? 0;
    if (topLogProbs > MAX_TOP_LOGPROBS) fields.wrong("top_logprobs", `at most ${MAX_TOP_LOGPROBS}`);
    if (topLogProbs > 0 && !hasLogProbs) {
      throw invalid('"top_logprobs" needs "logprobs": true', "top_logprobs");
    }
    const tools = toolsOf(fields);
    const maxTokens = fields.integer("max_completion_tokens", 1) ?? fields.integer("max_tokens", 1);
    const toolChoice = toolChoiceOf(fields.raw("tool_choice"), tools);
    const format = grammarOf(fields.raw("response_format"), "response_format");
    const asked: Asked = {
      model: fields.needText("model"),
      input: { kind: "chat", messages: chatMessages(plain.messages) },
      tools,
      toolChoice,
      variables: fields.object("chat_template_kwargs") ?? {},
      sampling: { ...samplingOf(plain, maxTokens), ...format },
      grammar: grammarField(plain, { format, formatField: "response_format", tools, toolChoice }),
      samples: fields.integer("n", 1) ?? 1,
      topLogProbs,
      isRetry: isRetry(headers),
    };
    const id = newId("chatcmpl-");
    const writer = new ChatWriter({
      id,
      model: asked.model,
      hasLogProbs,
      hasTopLogProbs: topLogProbs > 0,
      showsIds: fields.flag("return_token_ids") ?? false,
      includesUsage: fields.object("stream_options")?.include_usage === true,
    });
    return { asked, isStream: fields.flag("stream") ?? false, ignored, id, writer };
  },
  refuse: openAIError,
};

function isTextOnly(modalities: unknown): boolean {
  return Array.isArray(modalities) && modalities.every((one) => one === "text");
}

function toolsOf(fields: Fields): Asked["tools"] {
  return checkedTools((fields.objects("tools") ?? []).map((tool, index) => {
    const path = `tools[${index}]`;
    if (tool.type !== "function") {
      throw invalid(`"${path}.type" must be "function"`, `${path}.type`);
    }
    const described = new Fields(tool, `${path}.`).needObject("function");
    const name = new Fields(described, `${path}.function.`).needText("name");
    return offeredTool({ ...described, name }, `${path}.function`);
  }));
}

/** Which tools may be called. */
export function toolChoiceOf(value: unknown, tools: Asked["tools"]): ToolChoice {
  if (value === undefined || value === "auto") return "auto";
  if (value === "none") return "none";
  if (tools.length === 0) throw invalid('"tool_choice" needs "tools"', "tool_choice");
  if (value === "required") return "required";
  const named = isRecord(value) ? (isRecord(value.function) ? value.function : value).name : null;
  if (typeof named !== "string") {
    throw invalid('"tool_choice" must be auto, none, required or name a function', "tool_choice");
  }
  if (!tools.some((tool) => tool.function.name === named)) {
    throw invalid(`"tool_choice" names "${named}", which is none of the tools`, "tool_choice");
  }
  return { name: named };
}

interface ChatWriterOptions {
  readonly id: string;
  readonly model: string;
  readonly hasLogProbs: boolean;
  readonly hasTopLogProbs: boolean;
  readonly showsIds: boolean;
  readonly includesUsage: boolean;
}

class ChatWriter implements AnswerWriter {
  readonly #options: ChatWriterOptions;
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #begun = new Set<number>();

  constructor(options: ChatWriterOptions) {
    this.#options = options;
  }

  async whole(turns: readonly RecordedTurn[], context: WriteContext): Promise<unknown> {
    const { id, model, hasLogProbs } = this.#options;
    return {
      id,
      object: "chat.completion",
      created: this.#created,
      model,
      choices: await Promise.all(turns.map(async (record, index) => {
        const { content, reasoning, calls } = record.shown;
        return {
          index,
          message: {
            role: "assistant",
            content: content === "" && calls.length > 0 ? null : content,
            refusal: null,
            ...(reasoning === null ? {} : { reasoning_content: reasoning }),
            ...(calls.length === 0 ? {} : { tool_calls: calls.map(openAICall) }),
          },
          finish_reason: finishReasonOf(record),
          logprobs: hasLogProbs ? await this.#logProbs(record, context) : null,
          ...this.#ids(record),
        };
      })),
      usage: chatUsage(turns),
    };
  }

  begin(): void {}

  async part(stream: EventStream, part: AnswerPart, context: WriteContext): Promise<void> {
    const { index, shown: { content, reasoning }, delta: { ids, logProbs } } = part;
    const { hasLogProbs, hasTopLogProbs } = this.#options;
    const showsTokens = hasLogProbs && !hasTopLogProbs && ids.length > 0;
    this.#role(stream, index);
    if (reasoning !== "") this.#chunk(stream, index, { reasoning_content: reasoning });
    if (content === "" && !showsTokens) return;
    const tokens = showsTokens ? await shownTokens(ids, logProbs, context) : null;
    this.#chunk(stream, index, { content }, {
      logprobs: tokens && {
        content: tokens.map((token) => ({ ...token, top_logprobs: [] })),
        refusal: null,
      },
    });
  }

  async end(
    stream: EventStream,
    turns: readonly RecordedTurn[],
    context: WriteContext,
  ): Promise<void> {
    const { hasTopLogProbs, includesUsage } = this.#options;
    for (const [index, record] of turns.entries()) {
      this.#role(stream, index);
      if (hasTopLogProbs) {
        this.#chunk(stream, index, { content: "" }, {
          logprobs: await this.#logProbs(record, context),
        });
      }
      for (const [at, call] of record.shown.calls.entries()) {
        this.#chunk(stream, index, { tool_calls: [{ index: at, ...openAICall(call) }] });
      }
      this.#chunk(stream, index, {}, {
        finish_reason: finishReasonOf(record),
        ...this.#ids(record),
      });
    }
    if (includesUsage) {
      stream.write({ ...this.#frame(), choices: [], usage: chatUsage(turns) });
    }
    stream.write("[DONE]");
  }

  fail(stream: EventStream, refusal: GatewayRefusal): void {
    stream.write(openAIError(refusal));
    stream.write("[DONE]");
  }

  #role(stream: EventStream, index: number): void {
    if (this.#begun.has(index)) return;
    this.#begun.add(index);
    this.#chunk(stream, index, { role: "assistant", content: "" });
  }

  #chunk(
    stream: EventStream,
    index: number,
    delta: Readonly<Record<string, unknown>>,
    more: Readonly<Record<string, unknown>> = {},
  ): void {
    const choice = { index, delta, logprobs: null, finish_reason: null, ...more };
    const usage = this.#options.includesUsage ? { usage: null } : {};
    stream.write({ ...this.#frame(), choices: [choice], ...usage });
  }

  #frame(): Readonly<Record<string, unknown>> {
    const { id, model } = this.#options;
    return { id, object: "chat.completion.chunk", created: this.#created, model };
  }

  async #logProbs({ turn, topLogProbs }: RecordedTurn, context: WriteContext): Promise<unknown> {
    const { ids, logProbs } = turn.sample;
    const tokens = await shownTokens(ids, logProbs, context);
    const content = await Promise.all(tokens.map(async (token, index) => {
      const likeliest = topLogProbs?.[index];
      return {
        ...token,
        top_logprobs: likeliest === undefined
          ? []
          : await shownTokens(likeliest.ids, likeliest.logProbs, context),
      };
    }));
    return { content, refusal: null };
  }

  #ids({ turn }: RecordedTurn): Readonly<Record<string, unknown>> {
    if (!this.#options.showsIds) return {};
    const { ids, logProbs, weightVersion, weightVersions } = turn.sample;
    return {
      prompt_token_ids: [...turn.prompt.ids],
      response_token_ids: [...ids],
      response_log_probs: logProbs === null ? null : [...logProbs],
      weight_version: weightVersion,
      weight_versions: weightVersions,
    };
  }
}

function chatUsage(turns: readonly RecordedTurn[]): Readonly<Record<string, unknown>> {
  return {
    ...openAIUsage(turns),
    prompt_tokens_details: { cached_tokens: turns[0]?.cachedTokens ?? 0 },
  };
}
