import { TokenDriftError } from "../errors.ts";
import { type Message, textOf } from "./message.ts";
import { renderChat, type RenderOptions } from "./templates/render.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** What to render a next turn with. */
export interface GlueOptions extends Omit<RenderOptions, "addGenerationPrompt"> {
  /** Tells what the last sampled token looks like. */
  readonly tokenizer: Tokenizer;
  /** Cancels a tokenizer that asks a server. */
  readonly signal?: AbortSignal | undefined;
}

/** A conversation whose last message was sampled. */
export interface SampledChat {
  /** The conversation with the sampled message last. */
  readonly chat: readonly Message[];
  /** The last sampled token; `null` when nothing was sampled. */
  readonly lastId: number | null;
}

/**
 * The text between a sampled message and the next one to sample: what closes the turn, unless it was
 * sampled, the new messages, and the opening of the assistant's turn. Its ids are put behind the ids
 * of the turns before, which stay as they were sampled.
 *
 * @throws {TokenDriftError} The template renders the earlier turns differently once there are new
 * ones, so the ids that were sampled are not what the conversation now says.
 */
export async function glueText(
  sampled: SampledChat,
  messages: readonly Message[],
  options: GlueOptions,
): Promise<string> {
  const { chat, lastId } = sampled;
  const before = renderChat(chat, { ...options, addGenerationPrompt: false });
  const after = renderChat([...chat, ...messages], { ...options, addGenerationPrompt: true });
  if (!after.startsWith(before)) throw rewritten(before, after);
  const closing = closingText(chat, before, options);
  const last = lastId === null
    ? ""
    : await options.tokenizer.decode([lastId], { signal: options.signal });
  const isClosed = last !== "" && closing.startsWith(last);
  return (isClosed ? closing.slice(last.length) : closing) + after.slice(before.length);
}

/**
 * The same for a template that rewrites earlier turns: rendered behind a stand-in conversation, so
 * that only what lies between the turns counts.
 */
export async function glueTextAlone(
  sampled: SampledChat,
  messages: readonly Message[],
  options: GlueOptions,
): Promise<string> {
  const standIn = [{ role: "user", content: "-" }, { role: "assistant", content: "-" }];
  return await glueText({ chat: standIn, lastId: sampled.lastId }, messages, options);
}

/** What the template puts behind the last message's content. */
function closingText(chat: readonly Message[], rendered: string, options: GlueOptions): string {
  const content = textOf(chat.at(-1)!);
  const opened = renderChat(chat.slice(0, -1), { ...options, addGenerationPrompt: true });
  const from = rendered.startsWith(opened) ? opened.length : 0;
  const at = from > 0 ? rendered.indexOf(content, from) : rendered.lastIndexOf(content);
  if (at >= 0) return rendered.slice(at + content.length);
  const trimmed = content.trim();
  return rendered.slice(rendered.lastIndexOf(trimmed) + trimmed.length);
}

function rewritten(before: string, after: string): TokenDriftError {
  let index = 0;
  while (index < before.length && before[index] === after[index]) index++;
  return new TokenDriftError(
    `The chat template renders earlier turns differently after new messages, from character ` +
      `${index} on: ${JSON.stringify(before.slice(index, index + 30))} became ` +
      `${JSON.stringify(after.slice(index, index + 30))}. Give a template that keeps them, or ` +
      'onTokenDrift "repair" to tokenise anew or "report" to keep the sampled ids',
    { index },
  );
}
