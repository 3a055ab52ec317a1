/**
 * Rows for a trainer: token ids, log-probabilities, masks and texts of several samples, their shape,
 * and their padding.
 *
 * @module
 */
export { type BatchShape, flattenRows, type Nested, nestRows, rowCount } from "./batch_shape.ts";
export { LogProbs, type LogProbsKey } from "./log_probs.ts";
export { masked, Masks, type MasksKey } from "./masks.ts";
export { type Matrix, Padding, type PadLayout, type RowArray, type RowLengths } from "./padding.ts";
export { type Columns, RowBatch } from "./row_batch.ts";
export { Text, type TextKey } from "./text.ts";
export { type PadOptions, Tokens, type TokensKey } from "./tokens.ts";
