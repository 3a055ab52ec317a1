import type { Asked } from "../asked.ts";
import type { EventStream } from "../event_stream.ts";
import type { GatewayRefusal } from "../fault.ts";
import type { RecordedTurn } from "../recorded_turn.ts";
import type { AnswerHistory } from "./response_items.ts";
import type { AnswerPart } from "../session.ts";
import type { Tokenizer } from "../../policy/tokenizer.ts";

/** A request of an API, read. */
export interface ReadRequest {
  /** What is asked. */
  readonly asked: Asked;
  /** Whether the answer is to come as a stream. */
  readonly isStream: boolean;
  /** Fields without effect. */
  readonly ignored: readonly string[];
  /** Id of the answer. */
  readonly id: string;
  /** Writes the answer. */
  readonly writer: AnswerWriter;
}

/** What an answer is written with. */
export interface WriteContext {
  /** Shows ids as text. */
  readonly tokenizer: Pick<Tokenizer, "decode">;
}

/** Writes an answer in the form of an API. */
export interface AnswerWriter {
  /** The answer as a whole. */
  whole(turns: readonly RecordedTurn[], context: WriteContext): Promise<unknown>;
  /** Begins a stream. */
  begin(stream: EventStream): void;
  /** Writes a part. Parts come in order, each after the former was written. */
  part(stream: EventStream, part: AnswerPart, context: WriteContext): Promise<void> | void;
  /** Ends a stream. */
  end(stream: EventStream, turns: readonly RecordedTurn[], context: WriteContext): Promise<void>;
  /** Ends a stream that failed. */
  fail(stream: EventStream, refusal: GatewayRefusal): void;
}

/** An API that agents speak. */
export interface Api {
  /**
   * Reads a request.
   *
   * @throws {GatewayRefusal} The request is not what the API takes.
   */
  read(
    body: Readonly<Record<string, unknown>>,
    headers: Headers,
    history: AnswerHistory,
  ): ReadRequest;
  /** A refusal in the API's shape. */
  refuse(refusal: GatewayRefusal): unknown;
}

/** Why an answer ended, in OpenAI's words. */
export function finishReasonOf({ turn, shown }: RecordedTurn): "stop" | "length" | "tool_calls" {
  if (shown.calls.length > 0) return "tool_calls";
  return turn.sample.finishReason.type === "length" ? "length" : "stop";
}

/** Tokens of an answer and its prompt, each counted once. */
export function usageOf(turns: readonly RecordedTurn[]): {
  readonly prompt: number;
  readonly completion: number;
} {
  return {
    prompt: turns[0]?.turn.prompt.ids.length ?? 0,
    completion: turns.reduce((sum, { turn }) => sum + turn.sample.ids.length, 0),
  };
}

/** The same in the words of OpenAI's APIs of chats and of texts. */
export function openAIUsage(turns: readonly RecordedTurn[]): Readonly<Record<string, unknown>> {
  const { prompt, completion } = usageOf(turns);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
  };
}

/** Whether the client says that it sends a request again. */
export function isRetry(headers: Headers): boolean {
  return Number(headers.get("x-stainless-retry-count") ?? 0) > 0;
}

/** A token with its log-probability, as OpenAI shows it. */
export interface ShownToken {
  /** What it says. */
  readonly token: string;
  /** Its log-probability. */
  readonly logprob: number;
  /** Its bytes; `null` where it is a part of a character. */
  readonly bytes: number[] | null;
}

const encoder = new TextEncoder();

/** Tokens with their log-probabilities. */
export function shownTokens(
  ids: Int32Array,
  logProbs: Float32Array | null,
  { tokenizer }: WriteContext,
): Promise<ShownToken[]> {
  return Promise.all(Array.from(ids, async (id, index) => {
    const token = await tokenizer.decode([id]);
    const bytes = token.includes("\ufffd") ? null : [...encoder.encode(token)];
    return { token, logprob: logProbs?.[index] ?? -9999, bytes };
  }));
}
