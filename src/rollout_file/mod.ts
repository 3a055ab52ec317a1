/**
 * Reading files of rollouts, those of `writeJsonLines` and `writeRollout`: window by window, from a
 * path or from a `Blob` of a browser.
 *
 * @module
 */
export { readRollout, type RolloutEntry, RolloutFile, type RolloutSource } from "./read_rollout.ts";
export {
  type FinishName,
  type RolloutRecord,
  type RolloutSchema,
  rolloutSchemas,
} from "./record.ts";
export type { DamagedRow, ReadProgress, ReadRolloutOptions, RolloutForm } from "./row_reader.ts";
