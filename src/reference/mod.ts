/**
 * Rows scored by another policy: a reference on servers of its own, or an adapter or older version on
 * the same ones.
 *
 * @module
 */
export { type ScorableRow, scoreRows, type ScoreRowsOptions } from "./score_rows.ts";
export { klReward, type KlRewardOptions } from "./kl_reward.ts";
