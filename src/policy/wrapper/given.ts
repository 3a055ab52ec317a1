import { ValidationError } from "../../errors.ts";
import type { Sampled, Turn } from "../../rollout/turn.ts";
import { LogProbs } from "../log_probs.ts";
import { Masks } from "../masks.ts";
import { Tokens } from "../tokens.ts";
import { type PolicyInput, readGivenIds } from "./inputs.ts";
import type { WrapperSettings } from "./options.ts";

/** Ids, masks and log-probabilities that came with a row of text. */
export interface GivenRow {
  /** Ids of the prompt. */
  readonly prompt: Int32Array | null;
  /** Ids of prompt and response. */
  readonly full: Int32Array | null;
  /** Assistant mask over one of the two. */
  readonly assistantMask: Uint8Array | null;
  /** Log-probabilities over one of the two. */
  readonly logProbs: Float32Array | null;
  /** Where the ids were sampled; `null` when that is not known. */
  readonly sampled: Sampled | null;
  /** Whether the prompt's ids are to be taken whatever the text says. */
  readonly isKept: boolean;
}

/** A row without anything beside its text. */
export const NOTHING_GIVEN: GivenRow = {
  prompt: null,
  full: null,
  assistantMask: null,
  logProbs: null,
  sampled: null,
  isKept: false,
};

/** What the input has beside the text, row by row. */
export function readGiven(
  input: PolicyInput,
  count: number,
  settings: WrapperSettings,
): GivenRow[] {
  const { preferTokens, tokensKey, masksKey, logProbsKey } = settings;
  const tokens = input[tokensKey];
  if (!preferTokens || !tokens) return Array.from({ length: count }, () => NOTHING_GIVEN);
  const { prompt, full } = readGivenIds(input, tokensKey, masksKey);
  const masks = input[masksKey];
  const logProbs = input[logProbsKey];
  const assistant = masks instanceof Masks && !masks.isPadded ? masks.allAssistantMask : null;
  const earlier = logProbs instanceof LogProbs && !logProbs.isPadded
    ? logProbs.prompt ?? logProbs.full
    : null;
  const sampled = tokens instanceof Tokens ? tokens.sampled : null;
  for (const rows of [prompt, full]) {
    if (rows === null || rows.length === count) continue;
    throw new ValidationError(`There are ${count} rows, but token ids for ${rows.length}`);
  }
  const rowOf = <T>(rows: readonly T[] | null, row: number) =>
    rows?.length === count ? rows[row]! : null;
  return Array.from({ length: count }, (_, row) => ({
    prompt: rowOf(prompt, row),
    full: rowOf(full, row),
    assistantMask: rowOf(assistant, row),
    logProbs: rowOf(earlier, row),
    sampled: rowOf(sampled, row),
    isKept: input.keepTokens === true,
  }));
}

/** Whether ids were sampled in a turn of a conversation. */
export function isTurn(sampled: Sampled): sampled is Turn {
  return "message" in sampled;
}
