import { HttpError } from "../errors.ts";

/** No model has so many tokens. */
const BEYOND_ANY_VOCABULARY = 2 ** 31 - 1;

/**
 * Body of a generate request that every server refuses before running anything, naming its
 * vocabulary size. `/server_info` does not tell it, and one id too large ends the server.
 * Source: `srt/sampling/sampling_params.py:SamplingParams.verify`.
 */
export const VOCABULARY_QUESTION = {
  input_ids: [0],
  sampling_params: { max_new_tokens: 0, logit_bias: { [BEYOND_ANY_VOCABULARY]: 0 } },
};

/** The vocabulary size in the refusal of {@linkcode VOCABULARY_QUESTION}, or `null`. */
export function readVocabSize(refusal: unknown): number | null {
  if (!(refusal instanceof HttpError) || refusal.status !== 400) return null;
  const match = /logit_bias must has? keys in \[0, (\d+)\]/.exec(refusal.serverMessage);
  return match === null ? null : Number(match[1]) + 1;
}
