import { ValidationError } from "../errors.ts";
import { checkOneOf, checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Names the group that a sample belongs to: samples of one prompt have the same one. */
export type GroupKey = number | string;

/** What is subtracted from a reward: the mean of its group, of the others in it, or nothing. */
export type Baseline = "mean" | "leave-one-out" | "none";

/** What the difference is divided by: the spread of its group, or nothing. */
export type Scale = "std" | "none";

/** Options of {@linkcode groupAdvantages}. */
export interface GroupAdvantageOptions {
  /** What is subtracted. Default `"mean"`. */
  readonly baseline?: Baseline | undefined;
  /** What the difference is divided by. Default `"std"`. */
  readonly scale?: Scale | undefined;
  /** Added to the standard deviation, so that a small spread is not made large. Default 1e-6. */
  readonly epsilon?: number | undefined;
}

const OPTION_NAMES = {
  baseline: true,
  scale: true,
  epsilon: true,
} as const satisfies OptionNames<GroupAdvantageOptions>;

const DEFAULT_EPSILON = 1e-6;
const BASELINES = ["mean", "leave-one-out", "none"];
const SCALES = ["std", "none"];

/**
 * Advantages `(D)` of `D` rewards, each compared with the rewards of its own group.
 *
 * The standard deviation is that of a sample (divided by `n - 1`), as `torch.std` has it; a group
 * of one has none and gives 0, and so does a group whose rewards are all the same.
 *
 * @param rewards One reward for each dialog `(D)`.
 * @param groups The group of each dialog `(D)`; groups need not lie together.
 * @throws {ValidationError} When the lengths differ, a reward is not finite, or for an option that is
 *   none.
 */
export function groupAdvantages(
  rewards: ArrayLike<number>,
  groups: ArrayLike<GroupKey>,
  options: GroupAdvantageOptions = {},
): Float32Array {
  checkOptionNames(options, OPTION_NAMES, "groupAdvantages()");
  const { baseline = "mean", scale = "std", epsilon = DEFAULT_EPSILON } = options;
  checkOneOf("baseline", baseline, BASELINES);
  checkOneOf("scale", scale, SCALES);
  checkEpsilon(epsilon);
  const out = new Float32Array(rewards.length);
  for (const members of membersByGroup(rewards, groups).values()) {
    const { std, ...summary } = summarize(members, rewards);
    // Without spread each difference is 0, whatever it is divided by.
    const divisor = scale === "std" ? std + epsilon || 1 : 1;
    for (const index of members) {
      const reward = rewards[index]!;
      out[index] = (reward - baselineOf(baseline, reward, summary)) / divisor;
    }
  }
  return out;
}

/**
 * Advantages of GRPO: `(r - mean) / (std + epsilon)` within a group.
 *
 * Source: Shao et al., DeepSeekMath, section 4.1.2 (https://arxiv.org/abs/2402.03300).
 *
 * @example
 * ```ts
 * import { grpo } from "@sglang-rl/sglang-rl/training";
 *
 * console.log(grpo([1, 0, 0, 1], [0, 0, 1, 1])); // 0.71, -0.71, -0.71, 0.71
 * ```
 */
export function grpo(
  rewards: ArrayLike<number>,
  groups: ArrayLike<GroupKey>,
  options: Pick<GroupAdvantageOptions, "epsilon"> = {},
): Float32Array {
  return groupAdvantages(rewards, groups, { ...options, baseline: "mean", scale: "std" });
}

/**
 * Advantages of Dr. GRPO: `r - mean` within a group, not divided by the spread. Its loss is not
 * divided by the length of an answer either; that part is the trainer's.
 *
 * Source: Liu et al., Understanding R1-Zero-Like Training (https://arxiv.org/abs/2503.20783).
 *
 * @example
 * ```ts
 * import { drGrpo } from "@sglang-rl/sglang-rl/training";
 *
 * console.log(drGrpo([1, 0, 0, 0], ["a", "a", "a", "a"])); // 0.75, -0.25, -0.25, -0.25
 * ```
 */
export function drGrpo(rewards: ArrayLike<number>, groups: ArrayLike<GroupKey>): Float32Array {
  return groupAdvantages(rewards, groups, { baseline: "mean", scale: "none" });
}

/**
 * Advantages of RLOO: a reward minus the mean of the other rewards in its group. A group of one has
 * no others and gives 0.
 *
 * Source: Ahmadian et al., Back to Basics (https://arxiv.org/abs/2402.14740), equation 7.
 *
 * @example
 * ```ts
 * import { rloo } from "@sglang-rl/sglang-rl/training";
 *
 * console.log(rloo([1, 0, 0], ["a", "a", "a"])); // 1, -0.5, -0.5
 * ```
 */
export function rloo(rewards: ArrayLike<number>, groups: ArrayLike<GroupKey>): Float32Array {
  return groupAdvantages(rewards, groups, { baseline: "leave-one-out", scale: "none" });
}

/**
 * Values `(D)` shifted to mean 0 and scaled to a standard deviation of 1 over the whole batch; with a
 * mask `(D)`, over the values where it is not 0, and 0 elsewhere.
 *
 * Source: Andrychowicz et al., What Matters in On-Policy RL (https://arxiv.org/abs/2006.05990), C67.
 *
 * @example
 * ```ts
 * import { whiten } from "@sglang-rl/sglang-rl/training";
 *
 * console.log(whiten([1, 2, 3])); // -1, 0, 1
 * ```
 */
export function whiten(
  values: ArrayLike<number>,
  options: { mask?: ArrayLike<number> | undefined; epsilon?: number | undefined } = {},
): Float32Array {
  const { mask, epsilon = DEFAULT_EPSILON } = options;
  checkEpsilon(epsilon);
  if (mask !== undefined) requireSameLength("mask", mask.length, values.length);
  const members: number[] = [];
  for (let index = 0; index < values.length; index++) {
    if (mask === undefined || mask[index] !== 0) members.push(index);
  }
  requireFinite(members, values);
  const { mean, std } = summarize(members, values);
  const out = new Float32Array(values.length);
  for (const index of members) out[index] = (values[index]! - mean) / (std + epsilon || 1);
  return out;
}

/**
 * What is still to come at each turn of a dialog `(T)`: its reward and the later ones, each turn of
 * distance worth `discount` as much.
 *
 * Source: Sutton and Barto, Reinforcement Learning, second edition, equation 3.8.
 *
 * @example
 * ```ts
 * import { rewardsToGo } from "@sglang-rl/sglang-rl/training";
 *
 * console.log(rewardsToGo([0, 0, 1], { discount: 0.5 })); // 0.25, 0.5, 1
 * ```
 */
export function rewardsToGo(
  rewards: ArrayLike<number>,
  options: { discount?: number | undefined } = {},
): Float32Array {
  const { discount = 1 } = options;
  if (!(discount >= 0 && discount <= 1)) {
    throw new ValidationError(`discount must be between 0 and 1, not ${discount}`);
  }
  requireFinite(Array.from({ length: rewards.length }, (_, turn) => turn), rewards);
  const out = new Float32Array(rewards.length);
  let rest = 0;
  for (let turn = rewards.length - 1; turn >= 0; turn--) {
    rest = rewards[turn]! + discount * rest;
    out[turn] = rest;
  }
  return out;
}

/** Whether all rewards are the same, so that nothing can be learned from comparing them. */
export function isFlat(rewards: ArrayLike<number>, tolerance = 0): boolean {
  let least = Infinity;
  let most = -Infinity;
  for (let index = 0; index < rewards.length; index++) {
    least = Math.min(least, rewards[index]!);
    most = Math.max(most, rewards[index]!);
  }
  return rewards.length === 0 || most - least <= tolerance;
}

function membersByGroup(
  rewards: ArrayLike<number>,
  groups: ArrayLike<GroupKey>,
): Map<GroupKey, number[]> {
  requireSameLength("groups", groups.length, rewards.length);
  const byGroup = new Map<GroupKey, number[]>();
  for (let index = 0; index < rewards.length; index++) {
    const members = byGroup.get(groups[index]!);
    if (members === undefined) byGroup.set(groups[index]!, [index]);
    else members.push(index);
  }
  for (const members of byGroup.values()) requireFinite(members, rewards);
  return byGroup;
}

interface Summary {
  readonly sum: number;
  readonly size: number;
  readonly least: number;
  readonly most: number;
}

function summarize(
  members: readonly number[],
  values: ArrayLike<number>,
): Summary & { readonly mean: number; readonly std: number } {
  let sum = 0;
  let least = Infinity;
  let most = -Infinity;
  for (const index of members) {
    const value = values[index]!;
    sum += value;
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  const size = members.length;
  const summary = { sum, size, least, most };
  const mean = meanOf(sum, size, summary);
  let squares = 0;
  for (const index of members) squares += (values[index]! - mean) ** 2;
  return { ...summary, mean, std: size < 2 ? 0 : Math.sqrt(squares / (size - 1)) };
}

/** A mean is not beyond its values, as rounding would have it: that of equal values is theirs. */
function meanOf(sum: number, count: number, { least, most }: Summary): number {
  return Math.max(least, Math.min(most, sum / count));
}

function baselineOf(baseline: Baseline, reward: number, summary: Summary): number {
  const { sum, size } = summary;
  if (baseline === "none") return 0;
  if (baseline === "mean") return meanOf(sum, size, summary);
  return size === 1 ? reward : meanOf(sum - reward, size - 1, summary);
}

function checkEpsilon(epsilon: number): void {
  if (epsilon >= 0 && epsilon < Infinity) return;
  throw new ValidationError(`epsilon must be a finite number of at least 0, not ${epsilon}`);
}

function requireSameLength(name: string, length: number, expected: number): void {
  if (length === expected) return;
  throw new ValidationError(`${name} must have one entry for each value: ${length} of ${expected}`);
}

function requireFinite(members: readonly number[], values: ArrayLike<number>): void {
  for (const index of members) {
    if (Number.isFinite(values[index])) continue;
    throw new ValidationError(`Value ${index} must be a finite number, not ${values[index]}`);
  }
}
