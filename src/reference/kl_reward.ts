import { RolloutBatch } from "../collector/batch.ts";
import type { RLSGLangEngine } from "../engine/engine.ts";
import { ValidationError } from "../errors.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { type KlEstimator, klPenalty } from "../training/mod.ts";
import { scoreRows, type ScoreRowsOptions } from "./score_rows.ts";

/** Options of {@linkcode klReward}. */
export interface KlRewardOptions extends Omit<ScoreRowsOptions, "signal"> {
  /** The engine that serves the reference policy. */
  readonly reference: RLSGLangEngine;
  /** What the divergence is multiplied with before it is taken from the reward; above 0. */
  readonly coefficient: number;
  /** Which estimate of the divergence. Default `k1`. */
  readonly estimator?: KlEstimator | undefined;
}

const OPTION_NAMES = {
  reference: true,
  coefficient: true,
  estimator: true,
  request: true,
  timeoutMs: true,
} as const satisfies OptionNames<KlRewardOptions>;

/**
 * The divergence from a reference policy as a part of the reward: a `postproc` for a collector that
 * scores each batch on the reference's servers. From the reward of a row goes the coefficient times
 * the sum of the estimates of its sampled ids; `info.kl` tells that sum.
 *
 * The servers' log-probabilities are compared as they are: sample at temperature 1. Groups are
 * admitted before it (`admitGroup`, `dropFlatGroups`). A batch whose scoring failed is not lost: the
 * next `rollout()` scores it again.
 *
 * @throws {ValidationError} A wrong option; later, a row without log-probabilities or prompt ids.
 *
 * Source: Ziegler et al., Fine-Tuning Language Models from Human Preferences, equation 2.
 *
 * @example
 * ```ts
 * import { AsyncSGLang, LLMCollector } from "@sglang-rl/sglang-rl";
 * import type { EnvironmentPool } from "@sglang-rl/sglang-rl/environments";
 * import { klReward } from "@sglang-rl/sglang-rl/reference";
 * import type { SGLangWrapper } from "@sglang-rl/sglang-rl";
 *
 * declare const pool: EnvironmentPool;
 * declare const policy: SGLangWrapper;
 * await using reference = await AsyncSGLang.connect("http://127.0.0.1:30001");
 * await using collector = new LLMCollector(pool, {
 *   policy,
 *   dialogTurnsPerBatch: 256,
 *   postproc: klReward({ reference, coefficient: 0.05 }),
 * });
 * ```
 */
export function klReward(
  options: KlRewardOptions,
): (batch: RolloutBatch, context: { readonly signal: AbortSignal }) => Promise<RolloutBatch> {
  checkOptionNames(options, OPTION_NAMES, "klReward()");
  const { reference, coefficient, estimator = "k1", request, timeoutMs } = options;
  if (!(coefficient > 0) || coefficient === Infinity) {
    throw new ValidationError(`klReward: coefficient must be above 0, not ${coefficient}`);
  }
  // Wrong estimators are refused now, not after the first batch.
  klPenalty([], [], { coefficient, estimator });
  return async (batch, { signal }) => {
    const { rows } = batch;
    const without = rows.find(({ logProbs }) => logProbs === null);
    if (without !== undefined) {
      throw new ValidationError(
        `klReward: turn ${without.turn} of dialog ${without.dialog} has no log-probabilities; let the ` +
          "policy ask for them (returnLogProbs)",
      );
    }
    const scores = await scoreRows(rows, reference, { request, timeoutMs, signal });
    const changed = rows.map((row, i) => {
      const estimates = klPenalty(row.logProbs!, scores[i]!, { coefficient: 1, estimator });
      const kl = estimates.reduce((sum, value) => sum + value, 0);
      return { ...row, reward: row.reward - coefficient * kl, info: { ...row.info, kl } };
    });
    return new RolloutBatch({
      ...batch,
      rows: changed,
      stale: new Set(changed.filter((_, i) => batch.isStale(rows[i]!))),
    });
  };
}
