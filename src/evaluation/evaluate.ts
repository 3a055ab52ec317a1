import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { LLMCollector, type LLMCollectorOptions, type PolicySource } from "../collector/mod.ts";
import type { EnvironmentPool } from "../collector/pool.ts";
import type { CollectorPolicy } from "../collector/policy.ts";
import type { Trajectory } from "../collector/row.ts";
import { ValidationError } from "../errors.ts";
import { type AnyLLMWrapper, LLMWrapperBase } from "../policy/wrapper/base.ts";
import { passAtK } from "./pass_at_k.ts";

/** Options of {@linkcode evaluate}. */
export interface EvaluateOptions extends
  Pick<
    LLMCollectorOptions,
    | "maxTurns"
    | "dialogRetries"
    | "turnTimeoutMs"
    | "environmentTimeoutMs"
    | "signal"
    | "logger"
    | "clock"
  > {
  /** What answers, with the sampling parameters of the evaluation. */
  readonly policy: PolicySource;
  /** Tasks to try: groups 0 to `tasks - 1` of the environments. */
  readonly tasks: number;
  /** Samples of each task. Default 1. */
  readonly samplesPerTask?: number | undefined;
  /** The `k` of pass@k; at most `samplesPerTask` each. Default 1 and `samplesPerTask`. */
  readonly ks?: readonly number[] | undefined;
  /** Whether a dialog was right. Default: the sum of its rewards is above 0. */
  readonly isRight?: ((dialog: Trajectory) => boolean) | undefined;
  /** Told after each task. */
  readonly onProgress?: ((progress: EvaluationProgress) => void) | undefined;
}

const NAMES = {
  maxTurns: true,
  dialogRetries: true,
  turnTimeoutMs: true,
  environmentTimeoutMs: true,
  signal: true,
  logger: true,
  clock: true,
  policy: true,
  tasks: true,
  samplesPerTask: true,
  ks: true,
  isRight: true,
  onProgress: true,
} as const satisfies OptionNames<EvaluateOptions>;

/** How far an evaluation is. */
export interface EvaluationProgress {
  /** Tasks that are done. */
  readonly done: number;
  /** Tasks in all. */
  readonly tasks: number;
  /** Mean reward so far. */
  readonly meanReward: number;
}

/** What came of one task. */
export interface TaskResult {
  /** Number of the task. */
  readonly task: number;
  /** Sum of rewards of each sample, by member. */
  readonly rewards: readonly number[];
  /** How many samples were right. */
  readonly right: number;
  /** `info` of the first sample's first row. */
  readonly info: Readonly<Record<string, unknown>>;
}

/** What came of an evaluation. */
export interface Evaluation {
  /** Each task that has a sample, by number. */
  readonly tasks: readonly TaskResult[];
  /** pass@k by `k`: the mean over the tasks that have at least `k` samples; NaN when none has. */
  readonly passAtK: Readonly<Record<number, number>>;
  /** avg@k with `k = samplesPerTask`: the mean reward over the samples of a task, then over tasks. */
  readonly meanReward: number;
  /** Samples that failed in all their tries; they are left out of all figures. */
  readonly failures: number;
  /** How many turns were made with each of the servers' weight versions. */
  readonly weightVersions: Readonly<Record<string, number>>;
}

/**
 * Tries held-out tasks on the engine that trains, beside the collector: with dialogs, sampling and
 * limits of its own, and without being registered with the policy or a weight sync. A sync within an
 * evaluation shows in `weightVersions`; hold syncs back for figures of one version.
 *
 * @throws {ValidationError} For numbers that make no sense.
 * @throws {AbortedError} When the signal fires.
 *
 * @example
 * ```ts ignore
 * const result = await evaluate(new EnvironmentPool(makeHeldOut, { size: 32 }), {
 *   policy: policy.getNewVersion({ generateKwargs: { temperature: 0.6, maxNewTokens: 512 } }),
 *   tasks: 200,
 *   samplesPerTask: 8,
 *   ks: [1, 4, 8],
 * });
 * console.log(result.passAtK[1], result.passAtK[8], result.meanReward);
 * ```
 */
export async function evaluate(
  environments: EnvironmentPool,
  options: EvaluateOptions,
): Promise<Evaluation> {
  checkOptionNames(options, NAMES, "evaluate()");
  const {
    policy,
    tasks,
    samplesPerTask = 1,
    ks: givenKs,
    isRight = isRewarded,
    onProgress,
    ...rest
  } = options;
  const ks = [...new Set(givenKs ?? [1, samplesPerTask])];
  checkOptions({ tasks, samplesPerTask, ks });
  await using collector = new LLMCollector(environments, {
    ...rest,
    policy: apart(policy),
    dialogTurnsPerBatch: 1,
    totalDialogs: tasks * samplesPerTask,
    groupSize: samplesPerTask,
    incompleteGroups: "keep",
    onDialogError: "skip",
    maxConsecutiveFailures: Infinity,
  });
  const results: TaskResult[] = [];
  const weightVersions: Record<string, number> = {};
  let failures = 0, sum = 0;
  for await (const batch of collector) {
    failures += batch.failures.length;
    for (const group of batch.groups()) {
      const result = resultOf(group, isRight);
      results.push(result);
      sum += mean(result.rewards);
    }
    for (const { weightVersions: spans } of batch.rows) {
      for (const { version } of spans ?? []) {
        weightVersions[version] = (weightVersions[version] ?? 0) + 1;
      }
    }
    onProgress?.({ done: results.length, tasks, meanReward: sum / results.length });
  }
  results.sort((a, b) => a.task - b.task);
  return {
    tasks: results,
    passAtK: Object.fromEntries(ks.map((k) => [k, meanPassAtK(results, k)])),
    meanReward: meanReward(results),
    failures,
    weightVersions,
  };
}

/** The same policy, which does not hear of this collector: it belongs to the one that trains. */
function apart(source: PolicySource): CollectorPolicy | AnyLLMWrapper {
  const policy = typeof source === "function" ? source() : source;
  if (policy instanceof LLMWrapperBase) return policy.getNewVersion();
  const { prepare } = policy;
  const call: CollectorPolicy["call"] = (request, options) => policy.call(request, options);
  if (prepare === undefined) return { call };
  return { call, prepare: (request, options) => prepare.call(policy, request, options) };
}

function resultOf(
  group: readonly Trajectory[],
  isRight: (dialog: Trajectory) => boolean,
): TaskResult {
  const first = group[0]!.rows[0]!;
  return {
    task: first.group,
    rewards: group.map(rewardOf),
    right: group.filter(isRight).length,
    info: first.info,
  };
}

function rewardOf({ rows }: Trajectory): number {
  return rows.reduce((sum, row) => sum + row.reward, 0);
}

function isRewarded(dialog: Trajectory): boolean {
  return rewardOf(dialog) > 0;
}

function meanReward(results: readonly TaskResult[]): number {
  return mean(results.map(({ rewards }) => mean(rewards)));
}

function meanPassAtK(results: readonly TaskResult[], k: number): number {
  const counted = results.filter(({ rewards }) => rewards.length >= k);
  return mean(counted.map(({ rewards, right }) => passAtK({ samples: rewards.length, right, k })));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function checkOptions(
  { tasks, samplesPerTask, ks }: { tasks: number; samplesPerTask: number; ks: readonly number[] },
): void {
  for (const [name, value] of Object.entries({ tasks, samplesPerTask })) {
    if (Number.isSafeInteger(value) && value > 0) continue;
    throw new ValidationError(`evaluate: ${name} must be a whole number above 0, not ${value}`);
  }
  const wrong = ks.find((k) => !Number.isSafeInteger(k) || k < 1 || k > samplesPerTask);
  if (wrong === undefined) return;
  throw new ValidationError(
    `evaluate: pass@${wrong} needs at least ${wrong} samples of each task; samplesPerTask is ` +
      samplesPerTask,
  );
}
