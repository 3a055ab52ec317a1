/** `POST /v1/messages`: Anthropic's API. */
import { onlyGiven } from "../../internal/option_names.ts";
import type { Asked, ToolChoice } from "../asked.ts";
import type { EventStream } from "../event_stream.ts";
import { type GatewayRefusal, invalid } from "../fault.ts";
import { newId } from "../ids.ts";
import type { RecordedTurn } from "../recorded_turn.ts";
import type { AnswerPart } from "../session.ts";
import { type AnswerWriter, type Api, isRetry, usageOf } from "./api.ts";
import {
  checkedTools,
  type FieldNames,
  Fields,
  ignoredFields,
  ignoredOfTools,
  offeredTool,
} from "./fields.ts";
import { conversationOf } from "./message_blocks.ts";
import { errorTypeOf } from "./openai_error.ts";
import { grammarField, grammarOf } from "./sampling_fields.ts";

const FIELDS = {
  used: [
    "model",
    "messages",
    "system",
    "max_tokens",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "output_config",
  ],
  ignored: [
    "metadata",
    "service_tier",
    "thinking",
    "cache_control",
    "inference_geo",
  ],
  refused: {
    container: "the gateway runs no code",
    mcp_servers: "the gateway calls no MCP servers; give tools",
    context_management: "the gateway edits no conversations",
  },
};

const TOOL_FIELDS = {
  used: ["type", "name", "description", "input_schema"],
  ignored: [
    "strict",
    "cache_control",
    "defer_loading",
    "eager_input_streaming",
    "input_examples",
    "allowed_callers",
  ],
};
const CHOICE_FIELDS = { used: ["type", "name"], ignored: ["disable_parallel_tool_use"] };
const OUTPUT_FIELDS = { used: ["format"], ignored: ["effort", "task_budget"] };

/** Anthropic's API. */
export const messages: Api = {
  read: (body, headers) => readMessages(body, headers, { needsMaxTokens: true }),
  refuse: anthropicError,
};

/** A request of `/v1/messages/count_tokens`. */
export const countTokens: Api = {
  read: (body, headers) => readMessages(body, headers, { needsMaxTokens: false }),
  refuse: anthropicError,
};

function readMessages(
  body: Readonly<Record<string, unknown>>,
  headers: Headers,
  { needsMaxTokens }: { readonly needsMaxTokens: boolean },
): ReturnType<Api["read"]> {
  const fields = new Fields(body);
  const maxTokens = fields.integer("max_tokens", 1);
  if (maxTokens === undefined && needsMaxTokens) {
    throw invalid('"max_tokens" is missing: it must be a whole number of at least 1', "max_tokens");
  }
  const tools = toolsOf(fields);
  const within = (name: string, names: FieldNames) =>
    ignoredFields(fields.object(name) ?? {}, names, `${name}.`);
  const ignored = [
    ...ignoredFields(body, FIELDS),
    ...ignoredOfTools(fields.objects("tools"), TOOL_FIELDS, "tools[]."),
    ...within("tool_choice", CHOICE_FIELDS),
    ...within("output_config", OUTPUT_FIELDS),
  ];
  const stop = fields.texts("stop_sequences");
  const sampling = {
    maxNewTokens: maxTokens,
    temperature: fields.number("temperature"),
    topP: fields.number("top_p"),
    topK: fields.integer("top_k", 0),
    stop: stop === undefined || stop.length === 0 ? undefined : stop,
  };
  const toolChoice = toolChoiceOf(fields.object("tool_choice"), tools);
  const format = grammarOf(fields.object("output_config")?.format, "output_config.format");
  const asked: Asked = {
    model: fields.needText("model"),
    input: { kind: "chat", messages: conversationOf(fields) },
    tools,
    toolChoice,
    variables: {},
    sampling: { ...onlyGiven(sampling), ...format },
    grammar: grammarField({}, { format, formatField: "output_config.format", tools, toolChoice }),
    samples: 1,
    topLogProbs: 0,
    isRetry: isRetry(headers),
  };
  const id = newId("msg_");
  const writer = new MessageWriter(id, asked.model);
  return { asked, isStream: fields.flag("stream") ?? false, ignored, id, writer };
}

function toolsOf(fields: Fields): Asked["tools"] {
  return checkedTools((fields.objects("tools") ?? []).map((tool, index) => {
    const path = `tools[${index}]`;
    if (tool.type !== undefined && tool.type !== null && tool.type !== "custom") {
      throw invalid(`"${path}" is a tool of Anthropic's servers: only custom tools can be called`);
    }
    const name = new Fields(tool, `${path}.`).needText("name");
    return offeredTool({ ...tool, name, parameters: tool.input_schema }, path);
  }));
}

function toolChoiceOf(
  value: Readonly<Record<string, unknown>> | undefined,
  tools: Asked["tools"],
): ToolChoice {
  const kind = value?.type ?? "auto";
  if (kind === "auto" || kind === "none") return kind;
  if (tools.length === 0) throw invalid('"tool_choice" needs "tools"', "tool_choice");
  if (kind === "any") return "required";
  const { name } = value ?? {};
  if (kind === "tool" && tools.some((tool) => tool.function.name === name)) {
    return { name: name as string };
  }
  throw invalid('"tool_choice" must be auto, any, none, or name one of the tools', "tool_choice");
}

class MessageWriter implements AnswerWriter {
  readonly #id: string;
  readonly #model: string;
  #block: "text" | "thinking" | null = null;
  #blocks = 0;

  constructor(id: string, model: string) {
    this.#id = id;
    this.#model = model;
  }

  whole(turns: readonly RecordedTurn[]): Promise<unknown> {
    const [record] = turns;
    const { content, reasoning, calls } = record!.shown;
    const blocks = [
      ...(reasoning === null ? [] : [{ type: "thinking", thinking: reasoning, signature: "" }]),
      ...(content === "" ? [] : [{ type: "text", text: content, citations: null }]),
      ...calls.map(({ id, name, arguments: json }) => ({
        type: "tool_use",
        id,
        name,
        input: JSON.parse(json),
        caller: { type: "direct" },
      })),
    ];
    return Promise.resolve({
      ...this.#frame(),
      content: blocks,
      ...stopOf(record!),
      usage: { ...messageUsage(turns), ...NO_SERVICE },
    });
  }

  begin(stream: EventStream): void {
    const message = {
      ...this.#frame(),
      content: [],
      stop_reason: null,
      stop_sequence: null,
      stop_details: null,
      usage: { ...messageUsage([]), ...NO_SERVICE },
    };
    send(stream, { type: "message_start", message });
  }

  part(stream: EventStream, { shown: { content, reasoning } }: AnswerPart): void {
    if (reasoning !== "") {
      this.#open(stream, "thinking");
      this.#delta(stream, { type: "thinking_delta", thinking: reasoning });
    }
    if (content !== "") {
      this.#open(stream, "text");
      this.#delta(stream, { type: "text_delta", text: content });
    }
  }

  end(stream: EventStream, turns: readonly RecordedTurn[]): Promise<void> {
    const [record] = turns;
    this.#close(stream);
    for (const { id, name, arguments: json } of record!.shown.calls) {
      const caller = { type: "direct" };
      this.#start(stream, { type: "tool_use", id, name, input: {}, caller });
      this.#delta(stream, { type: "input_json_delta", partial_json: json });
      this.#stop(stream);
    }
    const usage = messageUsage(turns);
    const delta = { ...stopOf(record!), container: null };
    send(stream, { type: "message_delta", delta, usage });
    send(stream, { type: "message_stop" });
    return Promise.resolve();
  }

  fail(stream: EventStream, refusal: GatewayRefusal): void {
    stream.write(anthropicError(refusal), "error");
  }

  #frame(): Readonly<Record<string, unknown>> {
    return {
      id: this.#id,
      type: "message",
      role: "assistant",
      model: this.#model,
      container: null,
      diagnostics: null,
    };
  }

  #open(stream: EventStream, kind: "text" | "thinking"): void {
    if (this.#block === kind) return;
    this.#close(stream);
    this.#block = kind;
    this.#start(
      stream,
      kind === "text"
        ? { type: "text", text: "", citations: null }
        : { type: "thinking", thinking: "", signature: "" },
    );
  }

  #close(stream: EventStream): void {
    if (this.#block !== null) this.#stop(stream);
    this.#block = null;
  }

  #start(stream: EventStream, block: unknown): void {
    send(stream, { type: "content_block_start", index: this.#blocks, content_block: block });
  }

  #delta(stream: EventStream, delta: unknown): void {
    send(stream, { type: "content_block_delta", index: this.#blocks, delta });
  }

  #stop(stream: EventStream): void {
    send(stream, { type: "content_block_stop", index: this.#blocks++ });
  }
}

function send(
  stream: EventStream,
  event: { readonly type: string } & Readonly<Record<string, unknown>>,
): void {
  stream.write(event, event.type);
}

/** What Anthropic's service tells of itself, and a client's type wants to be there. */
const NO_SERVICE = { cache_creation: null, inference_geo: null, service_tier: null, speed: null };

function stopOf({ turn, shown }: RecordedTurn): Readonly<Record<string, unknown>> {
  const { finishReason } = turn.sample;
  const stop = (stop_reason: string, stop_sequence: string | null = null) => ({
    stop_reason,
    stop_sequence,
    stop_details: null,
  });
  if (shown.calls.length > 0) return stop("tool_use");
  if (finishReason.type === "length") return stop("max_tokens");
  const matched = finishReason.type === "stop" ? finishReason.matched : null;
  return typeof matched === "string" ? stop("stop_sequence", matched) : stop("end_turn");
}

function messageUsage(turns: readonly RecordedTurn[]): Readonly<Record<string, unknown>> {
  const { prompt, completion } = usageOf(turns);
  const cached = Math.min(prompt, turns[0]?.cachedTokens ?? 0);
  return {
    // Tokens of the prompt that no cache had; the three together are the prompt.
    input_tokens: prompt - cached,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
    output_tokens: completion,
    output_tokens_details: null,
    server_tool_use: null,
  };
}

/** A refusal as Anthropic's API writes it. */
export function anthropicError({ message, status }: GatewayRefusal): unknown {
  return { type: "error", error: { type: typeOf(status), message } };
}

function typeOf(status: number): string {
  switch (status) {
    case 413:
      return "request_too_large";
    case 503:
      return "overloaded_error";
    default:
      return errorTypeOf(status, "api_error");
  }
}
