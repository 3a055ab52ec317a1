import { ValidationError } from "../../errors.ts";
import { startsWith } from "../../rollout/message_key.ts";
import type { TurnPrompt } from "../../rollout/turn.ts";
import type { Message } from "../message.ts";
import type { Tokenizer } from "../tokenizer.ts";
import type { TemplateChatModel } from "./chat_model.ts";
import { type ChatContext, chatPrompt, chatToScore, isOfModel } from "./chat_prompts.ts";
import { type GivenRow, readGiven } from "./given.ts";
import { type PolicyInput, readHistory, readIds, type ReadRows, readTexts } from "./inputs.ts";
import type { WrapperSettings } from "./options.ts";
import { idsRow, type PromptRow, textRow, turnRow } from "./prompt_row.ts";
import { textPrompt } from "./text_prompts.ts";

/** What prompts are read with. */
export interface ReadContext {
  readonly settings: WrapperSettings;
  /** Asked for only where it is needed: it may have to be read from a folder or a server. */
  readonly findTokenizer: () => Promise<Tokenizer>;
  /** The same for the chat template with its tokenizer. */
  readonly findModel: () => Promise<TemplateChatModel>;
  readonly signal: AbortSignal | undefined;
}

/** Reads the prompts of an input, or the rows to score, and finds the ids of each. */
export async function readPrompts(
  input: PolicyInput,
  context: ReadContext,
): Promise<ReadRows<PromptRow>> {
  const { inputMode } = context.settings;
  if (inputMode === "tokens") return readIdPrompts(input, context.settings);
  if (inputMode === "history") return await readChatPrompts(input, context);
  return await readTextPrompts(input, context);
}

function readIdPrompts(input: PolicyInput, settings: WrapperSettings): ReadRows<PromptRow> {
  const { rows, batchShape } = readIds(input, settings.inputPath, settings.masksKey);
  const empty = rows.findIndex((ids) => ids.length === 0);
  if (empty >= 0) throw new ValidationError(`Row ${empty} has no token ids`);
  return { rows: rows.map(idsRow), batchShape };
}

async function readChatPrompts(
  input: PolicyInput,
  { settings, findModel, signal }: ReadContext,
): Promise<ReadRows<PromptRow>> {
  const { rows, batchShape } = readHistory(input, settings.inputPath, settings.logger);
  if (rows.length === 0) return { rows: [], batchShape };
  const context = { settings, model: await findModel(), signal };
  const given = readGiven(input, rows.length, settings);
  if (!settings.generate) {
    const scores = rows.map((chat, row) => chatToScore(chat, given[row]!, context));
    return { rows: await Promise.all(scores), batchShape };
  }
  const { prompts } = input;
  const prompted = rows.map((chat, row) =>
    chatRow(chat, { prepared: prompts?.[row], given: given[row]!, context })
  );
  return { rows: await Promise.all(prompted), batchShape };
}

/** What `nextTurn()` prepared is taken as long as the conversation is still the one it was for. */
async function chatRow(
  chat: readonly Message[],
  { prepared, given, context }: {
    prepared: TurnPrompt | undefined;
    given: GivenRow;
    context: ChatContext;
  },
): Promise<PromptRow> {
  const isPrepared = prepared !== undefined && prepared.messages.length === chat.length &&
    startsWith(chat, prepared.messages) && await isOfModel(prepared, context);
  if (isPrepared) return turnRow({ ...prepared, model: context.model });
  return await chatPrompt(chat, given, context);
}

async function readTextPrompts(
  input: PolicyInput,
  { settings, findTokenizer, signal }: ReadContext,
): Promise<ReadRows<PromptRow>> {
  const { rows, batchShape } = readTexts(input, settings.inputPath);
  const given = readGiven(input, rows.length, settings);
  const isGiven = given.some(({ prompt, full }) => prompt !== null || full !== null);
  if (!isGiven) return { rows: rows.map((text) => textRow(text)), batchShape };
  const context = { settings, tokenizer: await findTokenizer(), signal };
  const prompts = rows.map((text, row) => textPrompt(text, given[row]!, context));
  return { rows: await Promise.all(prompts), batchShape };
}
