import { TokenDriftError } from "../../errors.ts";
import type { Message } from "../message.ts";
import { messageKey, type Origin, originOf } from "../origin.ts";
import { renderChat } from "../templates/render.ts";
import { nextIds } from "./next_ids.ts";
import { type PromptContext, templateOf } from "./prompt_context.ts";

/** What a row of ids is to say. */
export interface Said {
  /** The conversation; `null` outside history mode. */
  readonly chat: readonly Message[] | null;
  /** The text, or the conversation as the template renders it. */
  readonly text: string;
}

/** Ids that need no comparison with a text, since a wrapper sampled them. */
export interface KnownRow {
  /** The ids. */
  readonly ids: Int32Array;
  /** 1 on assistants' tokens; may be shorter than the ids. */
  readonly assistantMask: Uint8Array;
}

/**
 * The row itself, if a wrapper sampled it in just this conversation or text, with the same template
 * and the same vocabulary; else `null`.
 */
export async function knownRow(
  ids: Int32Array,
  { chat, text }: Said,
  context: PromptContext,
): Promise<KnownRow | null> {
  const origin = originOf(ids);
  if (origin === null) return null;
  const { promptText, response } = origin;
  // A prompt that is to be sampled from is compared as it will be read.
  const isSaid = context.settings.generate || chat === null
    ? promptText + (response?.text ?? "") === text
    : response?.turn === chat.length - 1 && saysTurns(origin, chat, context);
  if (!isSaid || !await isOfVocabulary(ids, origin, context)) return null;
  return { ids, assistantMask: origin.assistantMask };
}

/**
 * The row of the turns before with the ids of what follows behind it, if a wrapper sampled it in a
 * conversation that this one continues; else `null`.
 */
export async function continuedRow(
  full: Int32Array,
  chat: readonly Message[],
  context: PromptContext,
): Promise<KnownRow | null> {
  const origin = originOf(full);
  if (!origin?.response || !saysTurns(origin, chat, context)) return null;
  if (!await isOfVocabulary(full, origin, context)) return null;
  const turns = origin.response.turn + 1;
  try {
    const sampled = { chat: chat.slice(0, turns), full };
    const ids = await nextIds(sampled, chat.slice(turns), context);
    return { ids, assistantMask: origin.assistantMask };
  } catch (error) {
    // The template rewrites earlier turns, which is drift like any other.
    if (error instanceof TokenDriftError) return null;
    throw error;
  }
}

/** Whether the conversation begins with the turns of a sampled row. */
function saysTurns(
  { promptText, response }: Origin,
  chat: readonly Message[],
  { settings, tokenizer }: PromptContext,
): boolean {
  const answer = response && chat[response.turn];
  if (!answer || response.message !== messageKey(answer)) return false;
  const options = { ...templateOf(settings, tokenizer), addGenerationPrompt: true };
  return renderChat(chat.slice(0, response.turn), options) === promptText;
}

/** Whether the tokenizer reads the ids as the one of their origin does. */
async function isOfVocabulary(
  ids: Int32Array,
  origin: Origin,
  { tokenizer, signal }: PromptContext,
): Promise<boolean> {
  const own = await origin.tokenizer();
  if (own === tokenizer) return true;
  const [one, other] = await Promise.all([
    own.decode(ids, { signal }),
    tokenizer.decode(ids, { signal }),
  ]);
  return one === other;
}
