import type { Message } from "../message.ts";
import { glueText } from "../next_turn.ts";
import { joined } from "../padding.ts";
import { type PromptContext, templateOf } from "./prompt_context.ts";

/**
 * The ids of the turns so far, as they were sampled, and behind them those of what lies between them
 * and the next turn, which `glue` writes.
 *
 * @throws {TokenDriftError} The template renders the earlier turns differently once there are new
 * ones.
 */
export async function nextIds(
  { chat, full }: { readonly chat: readonly Message[]; readonly full: Int32Array },
  messages: readonly Message[],
  context: PromptContext,
  glue: typeof glueText = glueText,
): Promise<Int32Array> {
  const { settings, tokenizer, signal } = context;
  const options = { ...templateOf(settings, tokenizer), tokenizer, signal };
  const text = await glue({ chat, lastId: full.at(-1) ?? null }, messages, options);
  return joined(full, await tokenizer.encode(text, { signal }));
}
