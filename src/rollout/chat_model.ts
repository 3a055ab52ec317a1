import type { Generation } from "../client/types.ts";
import type { Message } from "../policy/message.ts";
import type { Tokenizer } from "../policy/tokenizer.ts";
import type { KnownSample } from "./sample.ts";

/** Options of a call that may ask a server. */
export interface SignalOptions {
  /** Cancels it. */
  readonly signal?: AbortSignal | undefined;
}

/** A conversation as its template writes it, and the ids of that text. */
export interface RenderedPrompt {
  /** The text, ending with the opening of an assistant's turn. */
  readonly text: string;
  /** Its ids `(P)`. */
  readonly ids: Int32Array;
  /** 1 on ids that assistants wrote `(P)`; `null` when that cannot be told. */
  readonly assistantMask: Uint8Array | null;
}

/** What an answer is read with. */
export interface ReadOptions extends SignalOptions {
  /** The text of the prompt: it may have opened the thoughts that the answer begins with. */
  readonly promptText: string;
}

/** What turns of one model are made with: its template, its tokenizer, its way to read answers. */
export interface ChatModel {
  /** Turns text into ids and back. */
  readonly tokenizer: Tokenizer;
  /** The text of a conversation that an assistant is to go on with. */
  render(messages: readonly Message[]): string | Promise<string>;
  /** Text, ids and mask of a conversation of which nothing was sampled yet. */
  begin(messages: readonly Message[], options?: SignalOptions): Promise<RenderedPrompt>;
  /** An answer as the message that the conversation goes on with. */
  read(sample: KnownSample, options: ReadOptions): Message | Promise<Message>;
}

/** Samples an answer to the ids of a prompt. */
export type Sampler = (
  promptIds: Int32Array,
  options: SignalOptions,
) => Promise<Generation>;
