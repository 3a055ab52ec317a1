import { ValidationError } from "../errors.ts";
import { eachLogRatio, LARGEST_LOG_RATIO } from "./log_ratios.ts";
import { checkOneOf, checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Which estimate of the divergence; Schulman's names. */
export type KlEstimator = "k1" | "k2" | "k3";

/** Options of {@linkcode klPenalty}. */
export interface KlPenaltyOptions {
  /** What the divergence is multiplied with. */
  readonly coefficient: number;
  /** `k1` (default) for a reward, `k3` for a term of the loss, as GRPO has it. */
  readonly estimator?: KlEstimator | undefined;
  /** 1 on ids that count `(R)`; all of them without it. */
  readonly mask?: ArrayLike<number> | undefined;
}

const OPTION_NAMES = {
  coefficient: true,
  estimator: true,
  mask: true,
} as const satisfies OptionNames<KlPenaltyOptions>;

/**
 * The divergence from a reference policy of each sampled id `(R)`, times the coefficient: to be taken
 * from its reward (`k1`) or added to its loss (`k3`). With `d = log p_reference - log p_policy`: k1 is
 * -d, k2 is d² / 2, k3 is e^d - 1 - d. The reference's log-probabilities come from
 * `policy.logProb()` on an engine that serves it. `d` is limited to ±20 in k3.
 *
 * Sources: Schulman, Approximating KL Divergence (http://joschu.net/blog/kl-approx.html); DeepSeekMath,
 * equation 4, for k3.
 *
 * @throws {ValidationError} For lengths that differ, numbers that are not finite, or another estimator.
 *
 * @example
 * ```ts
 * import { klPenalty } from "@sglang-rl/sglang-rl/training";
 *
 * console.log(klPenalty([-1, -2], [-1.5, -2], { coefficient: 0.1 })); // [0.05, 0]
 * ```
 */
export function klPenalty(
  policy: ArrayLike<number>,
  reference: ArrayLike<number>,
  options: KlPenaltyOptions,
): Float32Array {
  checkOptionNames(options, OPTION_NAMES, "klPenalty()");
  const { coefficient, estimator = "k1", mask } = options;
  if (!Number.isFinite(coefficient)) {
    throw new ValidationError(`klPenalty: coefficient must be a finite number, not ${coefficient}`);
  }
  checkOneOf("klPenalty: estimator", estimator, Object.keys(estimates));
  const estimate = estimates[estimator];
  const penalties = new Float32Array(policy.length);
  eachLogRatio({ sampled: policy, trained: reference, mask }, 0, (d, position) => {
    penalties[position] = coefficient * estimate(d);
  });
  return penalties;
}

const estimates: Readonly<Record<KlEstimator, (d: number) => number>> = {
  k1: (d) => -d,
  k2: (d) => d * d / 2,
  k3: (d) => {
    const limited = Math.max(-LARGEST_LOG_RATIO, Math.min(LARGEST_LOG_RATIO, d));
    return Math.expm1(limited) - limited;
  },
};
