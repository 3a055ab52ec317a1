import type { Message } from "./message.ts";
import { isConcatenation } from "./padding.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** What a row of ids says, known from when it was sampled. */
export interface Origin {
  /** The prompt, as it was rendered or given. */
  readonly promptText: string;
  /** The response; `null` for the ids of a prompt. */
  readonly response: {
    /** As text. */
    readonly text: string;
    /** As a message, written by {@linkcode messageKey}; `null` outside history mode. */
    readonly message: string | null;
    /** Place of the message in the conversation, from 0 on. */
    readonly turn: number;
  } | null;
  /** 1 on assistants' tokens. */
  readonly assistantMask: Uint8Array;
  /** The ids once more, in parts. */
  readonly parts: readonly Int32Array[];
  /** Whose ids they are. */
  readonly tokenizer: () => Promise<Tokenizer>;
}

/**
 * Sampled ids and what they say belong together even where text cannot prove it: special tokens,
 * halves of characters and stop strings are in the ids and not in the text.
 */
const origins = new WeakMap<Int32Array, Origin>();

/** Remembers what a row of ids says, as long as somebody holds the row. */
export function rememberOrigin(ids: Int32Array, origin: Origin): void {
  origins.set(ids, origin);
}

/** What a row says; `null` when that is not known, or when its ids were changed since. */
export function originOf(ids: Int32Array): Origin | null {
  const origin = origins.get(ids);
  return origin && isConcatenation(origin.parts, ids) ? origin : null;
}

/** The other rows say what the first ones say: they are the same ids, with pads or without. */
export function passOrigins(
  rows: readonly Int32Array[] | null,
  others: readonly Int32Array[] | null,
): void {
  rows?.forEach((ids, row) => {
    const origin = origins.get(ids);
    if (origin && others) origins.set(others[row]!, origin);
  });
}

/** What a template can read of a message, to compare two of them. */
export function messageKey(message: Message): string {
  const { role, content, toolCalls, toolResponses } = message;
  return JSON.stringify([role, content, toolCalls ?? null, toolResponses ?? null]);
}
