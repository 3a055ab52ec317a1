import { ValidationError } from "../../errors.ts";
import { asError } from "../../internal/thrown.ts";
import { startsWith } from "../../rollout/message_key.ts";
import type { TurnPrompt } from "../../rollout/turn.ts";
import { asMessage, type Message } from "../message.ts";
import { checkMessage } from "../templates/template_messages.ts";
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

/** A row that is ready to be sent, or why it cannot be. */
export type ReadPrompt =
  | { readonly prompt: PromptRow; readonly error?: undefined }
  | { readonly error: Error; readonly prompt?: undefined };

/**
 * Reads the prompts of an input, or the rows to score, and finds the ids of each. A row that cannot
 * be prepared, such as a conversation that its template refuses, does not touch the others.
 */
export async function readPrompts(
  input: PolicyInput,
  context: ReadContext,
): Promise<ReadRows<ReadPrompt>> {
  const { inputMode } = context.settings;
  if (inputMode === "tokens") return readIdPrompts(input, context.settings);
  if (inputMode === "history") return await readChatPrompts(input, context);
  return await readTextPrompts(input, context);
}

function readIdPrompts(input: PolicyInput, settings: WrapperSettings): ReadRows<ReadPrompt> {
  const { rows, batchShape } = readIds(input, settings.inputPath, settings.masksKey);
  const read = rows.map((ids, row): ReadPrompt =>
    ids.length > 0
      ? { prompt: idsRow(ids) }
      : { error: new ValidationError(`Row ${row} has no token ids`) }
  );
  return { rows: read, batchShape };
}

async function readChatPrompts(
  input: PolicyInput,
  { settings, findModel, signal }: ReadContext,
): Promise<ReadRows<ReadPrompt>> {
  const { rows, batchShape } = readHistory(input, settings.inputPath, settings.logger);
  if (rows.length === 0) return { rows: [], batchShape };
  const context = { settings, model: await findModel(), signal };
  const given = readGiven(input, rows.length, settings);
  if (!settings.generate) {
    const scores = rows.map(async (chat, row) => {
      checkChat(chat);
      return await chatToScore(chat, given[row]!, context);
    });
    return { rows: await settled(scores, signal), batchShape };
  }
  const { prompts } = input;
  const prompted = rows.map((chat, row) =>
    chatRow(chat, { prepared: prompts?.[row], given: given[row]!, context })
  );
  return { rows: await settled(prompted, signal), batchShape };
}

/** Throws for a conversation that holds something else than messages. */
function checkChat(chat: readonly Message[]): void {
  chat.forEach((message, index) => {
    checkMessage(message, index);
    asMessage(message);
  });
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
  checkChat(chat);
  const isPrepared = prepared !== undefined && prepared.messages.length === chat.length &&
    startsWith(chat, prepared.messages) && await isOfModel(prepared, context);
  if (isPrepared) return turnRow({ ...prepared, model: context.model });
  return await chatPrompt(chat, given, context);
}

async function readTextPrompts(
  input: PolicyInput,
  { settings, findTokenizer, signal }: ReadContext,
): Promise<ReadRows<ReadPrompt>> {
  const { rows, batchShape } = readTexts(input, settings.inputPath);
  const given = readGiven(input, rows.length, settings);
  const isGiven = given.some(({ prompt, full }) => prompt !== null || full !== null);
  if (!isGiven) return { rows: rows.map((text) => ({ prompt: textRow(text) })), batchShape };
  const context = { settings, tokenizer: await findTokenizer(), signal };
  const prompts = rows.map((text, row) => textPrompt(text, given[row]!, context));
  return { rows: await settled(prompts, signal), batchShape };
}

/** What became of each row; a call that was cancelled fails as a whole. */
async function settled(
  rows: readonly Promise<PromptRow>[],
  signal: AbortSignal | undefined,
): Promise<readonly ReadPrompt[]> {
  return await Promise.all(rows.map(async (row): Promise<ReadPrompt> => {
    try {
      return { prompt: await row };
    } catch (error) {
      if (signal?.aborted) throw error;
      return { error: asError(error) };
    }
  }));
}
