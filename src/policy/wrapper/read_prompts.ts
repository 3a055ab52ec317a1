import { ValidationError } from "../../errors.ts";
import { LogProbs } from "../log_probs.ts";
import { Masks } from "../masks.ts";
import type { Tokenizer } from "../tokenizer.ts";
import {
  type PolicyInput,
  readGivenIds,
  readHistory,
  readIds,
  type ReadRows,
  readTexts,
} from "./inputs.ts";
import type { WrapperSettings } from "./options.ts";
import type { PromptRow } from "./outputs.ts";
import { chatPrompt, type GivenTokens, idsPrompt, textPrompt } from "./prompts.ts";

/** What prompts are read with. */
export interface ReadContext {
  readonly settings: WrapperSettings;
  /** Asked for only where it is needed: it may have to be read from a folder or a server. */
  readonly findTokenizer: () => Promise<Tokenizer>;
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
  return { rows: rows.map(idsPrompt), batchShape };
}

async function readChatPrompts(
  input: PolicyInput,
  { settings, findTokenizer, signal }: ReadContext,
): Promise<ReadRows<PromptRow>> {
  const { rows, batchShape } = readHistory(input, settings.inputPath, settings.logger);
  if (rows.length === 0) return { rows: [], batchShape };
  const context = { settings, tokenizer: await findTokenizer(), signal };
  const given = givenTokens(input, rows.length, settings);
  const prompts = rows.map((chat, row) => chatPrompt(chat, given[row]!, context));
  return { rows: await Promise.all(prompts), batchShape };
}

async function readTextPrompts(
  input: PolicyInput,
  { settings, findTokenizer, signal }: ReadContext,
): Promise<ReadRows<PromptRow>> {
  const { rows, batchShape } = readTexts(input, settings.inputPath);
  const given = givenTokens(input, rows.length, settings);
  const isGiven = given.some(({ prompt, full }) => prompt !== null || full !== null);
  if (!isGiven) return { rows: rows.map((text) => ({ ...NO_IDS, text })), batchShape };
  const context = { settings, tokenizer: await findTokenizer(), signal };
  const prompts = rows.map((text, row) => textPrompt(text, given[row]!, context));
  return { rows: await Promise.all(prompts), batchShape };
}

const NO_IDS = { ids: null, chat: null, assistantMask: null, logProbs: null, drift: null };

const NOTHING_GIVEN: GivenTokens = {
  prompt: null,
  full: null,
  assistantMask: null,
  logProbs: null,
  isKept: false,
};

/** Ids, masks and log-probabilities beside the text, row by row. */
function givenTokens(input: PolicyInput, count: number, settings: WrapperSettings): GivenTokens[] {
  const { preferTokens, generate, tokensKey, masksKey, logProbsKey } = settings;
  if (!preferTokens || !input[tokensKey]) return Array.from({ length: count }, () => NOTHING_GIVEN);
  const { prompt, full } = readGivenIds(input, tokensKey, masksKey);
  const masks = input[masksKey];
  const logProbs = input[logProbsKey];
  const assistant = masks instanceof Masks && !masks.isPadded ? masks.allAssistantMask : null;
  const earlier = logProbs instanceof LogProbs && !logProbs.isPadded
    ? logProbs.prompt ?? logProbs.full
    : null;
  const rowOf = <T>(rows: readonly T[] | null, row: number) =>
    rows?.length === count ? rows[row]! : null;
  return Array.from({ length: count }, (_, row) => ({
    // What is scored is the whole: there is no prompt to send.
    prompt: rowOf(generate ? prompt : full, row),
    full: generate ? rowOf(full, row) : null,
    assistantMask: rowOf(assistant, row),
    logProbs: rowOf(earlier, row),
    isKept: input.keepTokens === true,
  }));
}
