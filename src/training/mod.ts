/**
 * What a trainer computes from rows before its loss: advantages within groups, and how far its own
 * log-probabilities are from those that the rows were sampled with. Pure functions over arrays; no
 * permission is needed.
 *
 * @module
 */
export {
  type Baseline,
  drGrpo,
  type GroupAdvantageOptions,
  groupAdvantages,
  type GroupKey,
  grpo,
  isFlat,
  rewardsToGo,
  rloo,
  type Scale,
  whiten,
} from "./advantages.ts";
export { type ScoredRow } from "./log_ratios.ts";
export {
  compareLogProbs,
  type CompareOptions,
  mismatchAlarms,
  type MismatchBounds,
  type MismatchFigures,
  type MismatchReport,
  type WorstToken,
} from "./mismatch.ts";
export { type ImportanceWeightOptions, importanceWeights } from "./importance_weights.ts";
export { type KlEstimator, klPenalty, type KlPenaltyOptions } from "./kl_penalty.ts";
