import { ValidationError } from "../errors.ts";

/**
 * The chance that at least one of `k` samples is right, of `samples` that were drawn and `right` that
 * were: 1 - C(n-c, k) / C(n, k), without bias, as a product that stays exact for large numbers.
 *
 * Source: Chen et al., Evaluating Large Language Models Trained on Code, section 2.1.
 *
 * @throws {ValidationError} When `k` is above `samples`, or the numbers make no sense.
 *
 * @example
 * ```ts
 * import { passAtK } from "@sglang-rl/sglang-rl/evaluation";
 *
 * console.log(passAtK({ samples: 4, right: 1, k: 2 })); // 0.5
 * ```
 */
export function passAtK(counts: { samples: number; right: number; k: number }): number {
  const { samples, right, k } = counts;
  const areWhole = [samples, right, k].every((value) => Number.isSafeInteger(value) && value >= 0);
  if (!areWhole || right > samples || k < 1 || k > samples) {
    throw new ValidationError(
      `pass@${k} of ${samples} samples, ${right} of them right, makes no sense: whole numbers with ` +
        "1 <= k <= samples and right <= samples are expected",
    );
  }
  if (samples - right < k) return 1;
  let noneRight = 1;
  for (let i = samples - right + 1; i <= samples; i++) noneRight *= 1 - k / i;
  return 1 - noneRight;
}
