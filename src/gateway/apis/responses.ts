/** `POST /v1/responses`. */
import { onlyGiven } from "../../internal/option_names.ts";
import type { Asked } from "../asked.ts";
import type { EventStream } from "../event_stream.ts";
import { type GatewayRefusal, invalid } from "../fault.ts";
import { newId } from "../ids.ts";
import type { RecordedTurn } from "../recorded_turn.ts";
import type { AnswerPart } from "../session.ts";
import { type AnswerWriter, type Api, finishReasonOf, isRetry, usageOf } from "./api.ts";
import { toolChoiceOf } from "./chat_completions.ts";
import { checkedTools, Fields, ignoredFields, ignoredOfTools, offeredTool } from "./fields.ts";
import { openAIError } from "./openai_error.ts";
import { conversationOf } from "./response_items.ts";
import { grammarField, grammarOf } from "./sampling_fields.ts";

const FIELDS = {
  used: [
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "stream",
    "max_output_tokens",
    "temperature",
    "top_p",
    "text",
    "previous_response_id",
  ],
  ignored: [
    "store",
    "metadata",
    "user",
    "parallel_tool_calls",
    "reasoning",
    "include",
    "truncation",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "stream_options",
    "max_tool_calls",
    "top_logprobs",
  ],
  refused: {
    conversation: "send the conversation as input, or name a previous_response_id",
    background: "answers are not made in the background",
    prompt: "the gateway keeps no prompts",
  },
};

const TOOL_FIELDS = {
  used: ["type", "name", "description", "parameters"],
  ignored: ["strict", "defer_loading", "cache_control"],
};
const TEXT_FIELDS = { used: ["format"], ignored: ["verbosity"] };

/** OpenAI's API of responses. */
export const responses: Api = {
  read(body, headers, history) {
    const plain = { ...body };
    if (plain.background === false) delete plain.background;
    const fields = new Fields(plain);
    const given = fields.objects("tools") ?? [];
    const tools = checkedTools(given.map((tool, index) => {
      const path = `tools[${index}]`;
      if (tool.type !== "function") {
        throw invalid(`"${path}.type" must be "function": OpenAI's own tools are not here`, path);
      }
      const name = new Fields(tool, `${path}.`).needText("name");
      return offeredTool({ ...tool, name }, path);
    }));
    const ignored = [
      ...ignoredFields(plain, FIELDS),
      ...ignoredOfTools(given, TOOL_FIELDS, "tools[]."),
      ...ignoredFields(fields.object("text") ?? {}, TEXT_FIELDS, "text."),
    ];
    const sampling = {
      maxNewTokens: fields.integer("max_output_tokens", 1),
      temperature: fields.number("temperature"),
      topP: fields.number("top_p"),
    };
    const format = grammarOf(fields.object("text")?.format, "text.format");
    const toolChoice = toolChoiceOf(fields.raw("tool_choice"), tools);
    const asked: Asked = {
      model: fields.needText("model"),
      input: { kind: "chat", messages: conversationOf(fields, history) },
      tools,
      toolChoice,
      variables: {},
      sampling: { ...onlyGiven(sampling), ...format },
      grammar: grammarField({}, { format, formatField: "text.format", tools, toolChoice }),
      samples: 1,
      topLogProbs: 0,
      isRetry: isRetry(headers),
    };
    const hex = newId("");
    const writer = new ResponseWriter(hex, asked, plain);
    return { asked, isStream: fields.flag("stream") ?? false, ignored, id: `resp_${hex}`, writer };
  },
  refuse: openAIError,
};

type Item = Readonly<Record<string, unknown>>;

class ResponseWriter implements AnswerWriter {
  readonly #hex: string;
  readonly #asked: Asked;
  readonly #body: Item;
  readonly #created = Math.floor(Date.now() / 1000);
  #sequence = 0;
  #output = 0;
  #open: { readonly kind: "reasoning" | "message"; text: string } | null = null;

  constructor(hex: string, asked: Asked, body: Item) {
    this.#hex = hex;
    this.#asked = asked;
    this.#body = body;
  }

  whole(turns: readonly RecordedTurn[]): Promise<unknown> {
    const { content, reasoning, calls } = turns[0]!.shown;
    const isSaid = content !== "" || calls.length === 0;
    return Promise.resolve(this.#response(turns, [
      ...(reasoning === null ? [] : [this.#reasoning(reasoning)]),
      ...(isSaid ? [this.#message(content)] : []),
      ...calls.map(functionCall),
    ]));
  }

  begin(stream: EventStream): void {
    const response = this.#response([], []);
    this.#send(stream, { type: "response.created", response });
    this.#send(stream, { type: "response.in_progress", response });
  }

  part(stream: EventStream, { shown: { content, reasoning } }: AnswerPart): void {
    if (reasoning !== "") this.#delta(stream, "reasoning", reasoning);
    if (content !== "") this.#delta(stream, "message", content);
  }

  end(stream: EventStream, turns: readonly RecordedTurn[]): Promise<void> {
    const { content, calls } = turns[0]!.shown;
    // An answer without anything is a message without a text.
    if (content === "" && calls.length === 0) this.#delta(stream, "message", "");
    this.#close(stream);
    for (const call of calls) {
      const item = functionCall(call);
      const at = { item_id: item.id, output_index: this.#output };
      this.#send(stream, {
        type: "response.output_item.added",
        output_index: this.#output,
        item: { ...item, arguments: "", status: "in_progress" },
      });
      this.#send(stream, {
        type: "response.function_call_arguments.delta",
        ...at,
        delta: call.arguments,
      });
      this.#send(stream, {
        type: "response.function_call_arguments.done",
        ...at,
        name: call.name,
        arguments: call.arguments,
      });
      this.#send(stream, {
        type: "response.output_item.done",
        output_index: this.#output++,
        item,
      });
    }
    return this.whole(turns).then((response) => {
      const isWhole = (response as Item).status === "completed";
      const type = isWhole ? "response.completed" : "response.incomplete";
      this.#send(stream, { type, response });
    });
  }

  fail(stream: EventStream, { message, reason, param }: GatewayRefusal): void {
    this.#send(stream, { type: "error", code: reason, message, param });
  }

  #delta(stream: EventStream, kind: "reasoning" | "message", delta: string): void {
    if (this.#open?.kind !== kind) {
      this.#close(stream);
      this.#open = { kind, text: "" };
      const item = kind === "message" ? this.#message("") : this.#reasoning("");
      this.#send(stream, {
        type: "response.output_item.added",
        output_index: this.#output,
        item: { ...item, status: "in_progress", content: [] },
      });
      this.#send(stream, {
        type: "response.content_part.added",
        ...this.#place(kind),
        part: partOf(kind, ""),
      });
    }
    this.#open.text += delta;
    if (delta === "") return;
    const type = `response.${kind === "message" ? "output_text" : "reasoning_text"}.delta`;
    this.#send(stream, {
      type,
      ...this.#place(kind),
      delta,
      ...(kind === "message" ? { logprobs: [] } : {}),
    });
  }

  #close(stream: EventStream): void {
    if (this.#open === null) return;
    const { kind, text } = this.#open;
    this.#open = null;
    const type = `response.${kind === "message" ? "output_text" : "reasoning_text"}.done`;
    this.#send(stream, {
      type,
      ...this.#place(kind),
      text,
      ...(kind === "message" ? { logprobs: [] } : {}),
    });
    this.#send(stream, {
      type: "response.content_part.done",
      ...this.#place(kind),
      part: partOf(kind, text),
    });
    this.#send(stream, {
      type: "response.output_item.done",
      output_index: this.#output++,
      item: kind === "message" ? this.#message(text) : this.#reasoning(text),
    });
  }

  #place(kind: "reasoning" | "message"): Item {
    const item = kind === "message" ? `msg_${this.#hex}` : `rs_${this.#hex}`;
    return { item_id: item, output_index: this.#output, content_index: 0 };
  }

  #message(text: string): Item {
    const content = [partOf("message", text)];
    const id = `msg_${this.#hex}`;
    return { type: "message", id, status: "completed", role: "assistant", content };
  }

  #reasoning(text: string): Item {
    const content = [partOf("reasoning", text)];
    return { type: "reasoning", id: `rs_${this.#hex}`, summary: [], content };
  }

  #send(stream: EventStream, event: Item & { readonly type: string }): void {
    stream.write({ ...event, sequence_number: this.#sequence++ }, event.type);
  }

  #response(turns: readonly RecordedTurn[], output: readonly Item[]): Item {
    const { tools, sampling, model } = this.#asked;
    const body = this.#body;
    const isCut = turns[0] !== undefined && finishReasonOf(turns[0]) === "length";
    const status = turns.length === 0 ? "in_progress" : isCut ? "incomplete" : "completed";
    return {
      id: `resp_${this.#hex}`,
      object: "response",
      created_at: this.#created,
      status,
      background: false,
      error: null,
      incomplete_details: isCut ? { reason: "max_output_tokens" } : null,
      instructions: body.instructions ?? null,
      max_output_tokens: body.max_output_tokens ?? null,
      model,
      output,
      output_text: output.flatMap((item) => item.type === "message" ? [textOfItem(item)] : [])
        .join(""),
      parallel_tool_calls: true,
      previous_response_id: body.previous_response_id ?? null,
      reasoning: { effort: null, summary: null },
      store: false,
      temperature: sampling.temperature ?? 1,
      text: body.text ?? { format: { type: "text" } },
      tool_choice: body.tool_choice ?? "auto",
      tools: tools.map(({ function: described }) => ({
        type: "function",
        strict: false,
        description: null,
        parameters: null,
        ...described,
      })),
      top_p: sampling.topP ?? 1,
      truncation: "disabled",
      ...(turns.length === 0 ? {} : { usage: responseUsage(turns) }),
      metadata: body.metadata ?? {},
    };
  }
}

function partOf(kind: "reasoning" | "message", text: string): Item {
  return kind === "message"
    ? { type: "output_text", text, annotations: [], logprobs: [] }
    : { type: "reasoning_text", text };
}

function textOfItem({ content }: Item): string {
  return (content as readonly { readonly text: string }[]).map(({ text }) => text).join("");
}

function functionCall(
  { id, name, arguments: json }: RecordedTurn["shown"]["calls"][number],
): Item {
  return {
    type: "function_call",
    id: `fc_${id}`,
    call_id: id,
    name,
    arguments: json,
    status: "completed",
  };
}

function responseUsage(turns: readonly RecordedTurn[]): Item {
  const { prompt, completion } = usageOf(turns);
  return {
    input_tokens: prompt,
    input_tokens_details: { cached_tokens: turns[0]?.cachedTokens ?? 0, cache_write_tokens: 0 },
    output_tokens: completion,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: prompt + completion,
  };
}
