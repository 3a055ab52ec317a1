import { checkOneOf, checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { ValidationError } from "../errors.ts";
import { eachLogRatio, ratioOf, type ScoredRow } from "./log_ratios.ts";

/** Options of {@linkcode importanceWeights}. */
export interface ImportanceWeightOptions {
  /**
   * What a ratio is taken over: each id by itself (`"token"`), the product over a row
   * (`"sequence"`), or its geometric mean (`"geometric"`). Default `"token"`.
   */
  readonly level?: "token" | "sequence" | "geometric" | undefined;
  /**
   * What happens to a ratio beyond the bounds: it is set to the bound (`"truncate"`), or the id or
   * row gets the weight 0 (`"mask"`). Default `"truncate"`.
   */
  readonly beyond?: "truncate" | "mask" | undefined;
  /** Largest ratio. Default 2. */
  readonly upper?: number | undefined;
  /** Smallest ratio; 0 (default) for none. */
  readonly lower?: number | undefined;
}

const NAMES = {
  level: true,
  beyond: true,
  upper: true,
  lower: true,
} as const satisfies OptionNames<ImportanceWeightOptions>;

/**
 * Weights that correct for the difference between the engine that sampled and the trainer's model:
 * one `(R)` for each row, 0 where its mask is 0.
 *
 * Sources: Yao et al., Your Efficient RL Framework Secretly Brings You Off-Policy RL Training (2025),
 * for truncated weights; Ionides, Truncated Importance Sampling (2008); Zheng et al., GSPO
 * (https://arxiv.org/abs/2507.18071), for the geometric mean.
 *
 * @throws {ValidationError} For another option, bounds that exclude 1, lengths that differ and numbers that are not
 *   finite.
 *
 * @example
 * ```ts
 * import { importanceWeights } from "@sglang-rl/sglang-rl/training";
 *
 * const [weights] = importanceWeights([{ sampled: [-3, -1], trained: [-1, -1] }]);
 * console.log(weights); // 2, 1
 * ```
 */
export function importanceWeights(
  rows: readonly ScoredRow[],
  options: ImportanceWeightOptions = {},
): Float32Array[] {
  checkOptionNames(options, NAMES, "importanceWeights()");
  const { level = "token", beyond = "truncate", upper = 2, lower = 0 } = options;
  checkOneOf("level", level, ["token", "sequence", "geometric"]);
  checkOneOf("beyond", beyond, ["truncate", "mask"]);
  if (!(lower >= 0 && lower <= 1 && upper >= 1)) {
    throw new ValidationError(
      `The bounds of importance weights must hold 1 between them, not ${lower} to ${upper}`,
    );
  }
  const bound = (logRatio: number): number => {
    const ratio = ratioOf(logRatio);
    if (ratio >= lower && ratio <= upper) return ratio;
    if (beyond === "mask") return 0;
    return Math.max(lower, Math.min(upper, ratio));
  };
  return rows.map((row, index) => {
    const weights = new Float32Array(row.sampled.length);
    let sum = 0;
    const counted: number[] = [];
    eachLogRatio(row, index, (logRatio, position) => {
      sum += logRatio;
      counted.push(position);
      if (level === "token") weights[position] = bound(logRatio);
    });
    if (level === "token" || counted.length === 0) return weights;
    const weight = bound(level === "sequence" ? sum : sum / counted.length);
    for (const position of counted) weights[position] = weight;
    return weights;
  });
}
