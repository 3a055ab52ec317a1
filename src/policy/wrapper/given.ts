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
  const unpad = unpadding(tokens, masks);
  const assistant = masks instanceof Masks
    ? unpad(masks.allAssistantMask, { of: "full", isPadded: masks.isPadded })
    : null;
  const earlier = logProbs instanceof LogProbs
    ? unpad(logProbs.prompt ?? logProbs.full, {
      of: logProbs.prompt === null ? "full" : "prompt",
      isPadded: logProbs.isPadded,
    })
    : null;
  const sampled = tokens instanceof Tokens ? tokens.sampled : null;
  for (const rows of [prompt, full]) {
    if (rows === null || rows.length === count) continue;
    throw new ValidationError(`There are ${count} rows, but token ids for ${rows.length}`);
  }
  const rowOf = <T>(rows: readonly T[] | null, row: number) =>
    rows?.length === count ? rows[row]! : null;
  return Array.from({ length: count }, (_, row) => {
    const ids = { prompt: rowOf(prompt, row), full: rowOf(full, row) };
    return {
      ...ids,
      assistantMask: ofIds(rowOf(assistant, row), { ...ids, row, what: "the assistant mask" }),
      logProbs: ofIds(rowOf(earlier, row), { ...ids, row, what: "the log-probabilities" }),
      sampled: rowOf(sampled, row),
      isKept: input.keepTokens === true,
    };
  });
}

/** Takes the pads out of rows, as they are taken out of the ids of the same batch. */
function unpadding(tokens: unknown, masks: unknown) {
  const padding = tokens instanceof Tokens ? tokens.padding : null;
  const attention = masks instanceof Masks ? masks.allAttentionMask : null;
  return <Row extends Uint8Array | Float32Array>(
    rows: readonly Row[] | null,
    { of, isPadded }: { of: "prompt" | "full"; isPadded: boolean },
  ): readonly Row[] | null => {
    if (rows === null) return null;
    if (isPadded && padding !== null) {
      return of === "prompt" ? padding.unpadPrompt(rows) : padding.unpadFull(rows);
    }
    if (isPadded && (of === "prompt" || attention === null)) return null;
    return rows.map((row, index) => {
      const mask = attention?.[index];
      return mask?.length === row.length ? row.filter((_, at) => mask[at] === 1) as Row : row;
    });
  };
}

/**
 * Values over the ids of a row: one for each of its prompt, or of prompt and response.
 *
 * @throws {ValidationError} They are for other ids.
 */
function ofIds<Row extends Uint8Array | Float32Array>(
  values: Row | null,
  { prompt, full, row, what }: {
    readonly prompt: Int32Array | null;
    readonly full: Int32Array | null;
    readonly row: number;
    readonly what: string;
  },
): Row | null {
  if (values === null || values.length === 0 || prompt === null && full === null) return values;
  if (values.length === prompt?.length || values.length === full?.length) return values;
  if (full === null && values.length > prompt!.length) {
    return values.slice(0, prompt!.length) as Row;
  }
  const lengths = [prompt, full].filter((ids) => ids !== null).map((ids) => ids.length);
  throw new ValidationError(
    `Row ${row} has ${lengths.join(" ids of its prompt and ")} ids, but ${what} has ` +
      `${values.length} values: give one for each id`,
  );
}

/** Whether ids were sampled in a turn of a conversation. */
export function isTurn(sampled: Sampled): sampled is Turn {
  return "message" in sampled;
}
