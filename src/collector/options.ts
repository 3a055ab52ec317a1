import { ValidationError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { RolloutBatch } from "./batch.ts";
import { EnvironmentPool } from "./pool.ts";
import type { Environment } from "./environment.ts";
import type { AnyLLMWrapper } from "../policy/wrapper/base.ts";
import type { PartialRollouts } from "./wrapper_policy.ts";
import type { CollectorPolicy } from "./policy.ts";
import { PolicyVersion, type VersionKind } from "./policy_version.ts";
import type { GroupPlan, IncompleteGroups } from "./groups.ts";
import type { RolloutRow } from "./row.ts";
import type { OnStale } from "./staleness.ts";

/** Where batches go instead of to the reader; what `accept` answers is what the reader gets. */
export interface BatchSink<Item> {
  /** Takes a batch; the collector waits for it, so a slow sink slows the collector down. */
  accept(batch: RolloutBatch, options: { signal: AbortSignal }): Item | Promise<Item>;
  /** A collector that fills it in the background begins. */
  begin?(): void;
  /** A collector that had begun has ended: by this error, or because it was done or shut down. */
  end?(error?: Error): void;
}

/** Options of {@linkcode LLMCollector}. */
export interface LLMCollectorOptions<Item = RolloutBatch> {
  /** Turns (with `yieldOnlyLastSteps`: dialogs) in a batch. */
  readonly dialogTurnsPerBatch: number;
  /** Turns to give out in all, rounded up to whole batches; -1 (default) for no end. */
  readonly totalDialogTurns?: number | undefined;
  /** Dialogs to run in all, each once; -1 (default) for no end. The last batch may be smaller. */
  readonly totalDialogs?: number | undefined;
  /**
   * Dialogs of one task that are compared with each other: each task is begun this many times, and a
   * batch holds whole groups only. Rows tell `group` and `member`. `totalDialogs` counts members and
   * must be a multiple of it. Default: no groups.
   */
  readonly groupSize?: number | undefined;
  /**
   * A group whose member failed in all its tries: `"fill"` (default) runs the member again, up to
   * `maxGroupRefills` times a group, then drops the group; `"drop"` drops it at once; `"keep"` gives
   * it out with the members that it has.
   */
  readonly incompleteGroups?: IncompleteGroups | undefined;
  /** Times that failed members of one group are run again. Default 8. */
  readonly maxGroupRefills?: number | undefined;
  /** Members begun besides in each group; the first complete ones count, the others are ended. */
  readonly overSample?: number | undefined;
  /** Leave out groups in which every dialog has the same sum of rewards. Default false. */
  readonly dropFlatGroups?: boolean | undefined;
  /** Decides over a whole group, all rows of its members in order; false leaves it out. */
  readonly admitGroup?: ((rows: readonly RolloutRow[]) => boolean) | undefined;
  /** Give out only the last turn of each dialog. Default false. */
  readonly yieldOnlyLastSteps?: boolean | undefined;
  /** Give out whole dialogs. Default the value of `yieldOnlyLastSteps`. */
  readonly yieldCompletedTrajectories?: boolean | undefined;
  /** Begin new dialogs with every batch. Only for environments in step. Default false. */
  readonly resetAtEachIter?: boolean | undefined;
  /** One dimension instead of `(environments, turns)`. Default: true with a `replayBuffer`. */
  readonly flattenData?: boolean | undefined;
  /** Environments run at their own pace; needs a pool. Default: whether a pool is given. */
  readonly asyncEnvs?: boolean | undefined;
  /** Turns after which a dialog is cut short (`truncated`). Default: no limit. */
  readonly maxTurns?: number | undefined;
  /** Rows go in here, and the reader gets `null`. */
  readonly replayBuffer?: BatchSink<Item> | undefined;
  /** Batches go in here, and the reader gets `null`. */
  readonly queue?: BatchSink<Item> | undefined;
  /**
   * Applied to every batch before it is given out; the signal fires when nobody waits for it any more.
   * A batch for which it throws is not lost: it gets the same one again.
   */
  readonly postproc?:
    | ((
      batch: RolloutBatch,
      context: { readonly signal: AbortSignal },
    ) => RolloutBatch | Promise<RolloutBatch>)
    | undefined;
  /** Track policy versions: as integers (`true`, `"int"`), as UUIDs, or in your own tracker. */
  readonly trackPolicyVersion?: boolean | VersionKind | PolicyVersion | undefined;
  /**
   * How many versions the oldest token of a row may lie behind the present one when the row is given
   * out. Turns version tracking on. Default: no bound.
   */
  readonly maxStaleness?: number | undefined;
  /** What happens beyond the bound. Default `"keep"` for rows in step, else `"drop"`. */
  readonly onStale?: OnStale | undefined;
  /**
   * A generation that a pause aborted: `"resume"` (default) continues it until it ends by itself,
   * hidden from the environment; `"keep"` hands it on as it is, its finish reason `abort`. For
   * wrappers only.
   */
  readonly partialRollouts?: PartialRollouts | undefined;
  /** Batches that a pool may collect ahead of the reader, 0 or more. Default 1. */
  readonly prefetchBatches?: number | undefined;
  /** Times that a failed dialog is run again. Default 0. */
  readonly dialogRetries?: number | undefined;
  /**
   * A dialog that failed in all its tries: `"throw"` (default) hands its error to the reader, who can
   * go on reading; `"skip"` lists it in the next batch's `failures`.
   */
  readonly onDialogError?: "throw" | "skip" | undefined;
  /** Failed dialogs in a row after which skipping ends in an error. Default 32. */
  readonly maxConsecutiveFailures?: number | undefined;
  /** Deadline of one call of the policy. Default 600 000: a call waits while servers are paused. */
  readonly turnTimeoutMs?: number | undefined;
  /** Deadline of one `reset` or `step`. Default 60 000. */
  readonly environmentTimeoutMs?: number | undefined;
  /** Ends everything. */
  readonly signal?: AbortSignal | undefined;
  /** Where it reports. Default: nowhere. */
  readonly logger?: Logger | undefined;
  /** The time that deadlines use. */
  readonly clock?: Clock | undefined;
}

/** Environments to collect from: one, several that go in step, or a pool. */
export type EnvironmentSource = Environment | readonly Environment[] | EnvironmentPool;

/** A policy: a wrapper in history mode, or anything that answers turns. Or what makes one. */
export type PolicySource =
  | CollectorPolicy
  | AnyLLMWrapper
  | (() => CollectorPolicy | AnyLLMWrapper);

/** How rows are put together. */
export type Grouping = "grid" | "steps" | "trajectories" | "last_steps";

/** The options with defaults filled in. */
export interface CollectorPlan {
  readonly grouping: Grouping;
  readonly flatten: boolean;
  readonly onStale: OnStale;
  readonly maxStaleness: number;
  readonly versions: PolicyVersion | null;
  readonly totalTurns: number;
  readonly totalDialogs: number;
  readonly groups: GroupPlan | null;
  readonly prefetchBatches: number;
  readonly isAsync: boolean;
  readonly partialRollouts: PartialRollouts;
  readonly onDialogError: "throw" | "skip";
  readonly maxConsecutiveFailures: number;
}

const OPTION_NAMES = {
  dialogTurnsPerBatch: true,
  totalDialogTurns: true,
  totalDialogs: true,
  groupSize: true,
  incompleteGroups: true,
  maxGroupRefills: true,
  overSample: true,
  dropFlatGroups: true,
  admitGroup: true,
  yieldOnlyLastSteps: true,
  yieldCompletedTrajectories: true,
  resetAtEachIter: true,
  flattenData: true,
  asyncEnvs: true,
  maxTurns: true,
  replayBuffer: true,
  queue: true,
  postproc: true,
  trackPolicyVersion: true,
  maxStaleness: true,
  onStale: true,
  partialRollouts: true,
  prefetchBatches: true,
  dialogRetries: true,
  onDialogError: true,
  maxConsecutiveFailures: true,
  turnTimeoutMs: true,
  environmentTimeoutMs: true,
  signal: true,
  logger: true,
  clock: true,
} as const satisfies OptionNames<LLMCollectorOptions>;

/** Checks the options and fills in defaults; throws a {@linkcode ValidationError}. */
export function planCollection<Item>(
  source: EnvironmentSource,
  options: LLMCollectorOptions<Item>,
): CollectorPlan {
  checkOptionNames(options, OPTION_NAMES, "an LLMCollector");
  checkNumbers(options);
  const isPool = source instanceof EnvironmentPool;
  if (options.asyncEnvs === true && !isPool) {
    refuse("asyncEnvs needs an EnvironmentPool; give `new EnvironmentPool(make, { size })`");
  }
  if (Array.isArray(source) && source.length === 0) refuse("the list of environments is empty");
  if (options.replayBuffer !== undefined && options.queue !== undefined) {
    refuse("replayBuffer and queue exclude each other; give one of them");
  }
  const isAsync = options.asyncEnvs ?? isPool;
  const grouping = pickGrouping(options, isAsync);
  return {
    grouping,
    flatten: options.flattenData ?? options.replayBuffer !== undefined,
    ...planStaleness(options, grouping),
    totalTurns: orEndless(options.totalDialogTurns),
    totalDialogs: orEndless(options.totalDialogs),
    groups: planGroups(options),
    prefetchBatches: isAsync ? options.prefetchBatches ?? 1 : 0,
    isAsync,
    partialRollouts: options.partialRollouts ?? "resume",
    onDialogError: options.onDialogError ?? "throw",
    maxConsecutiveFailures: options.maxConsecutiveFailures ?? 32,
  };
}

function pickGrouping<Item>(options: LLMCollectorOptions<Item>, isAsync: boolean): Grouping {
  const onlyLast = options.yieldOnlyLastSteps ?? false;
  const isGrouped = options.groupSize !== undefined;
  const completed = options.yieldCompletedTrajectories ?? (onlyLast || isGrouped);
  if (isGrouped && !completed) {
    refuse("groupSize gives out whole dialogs; leave yieldCompletedTrajectories out");
  }
  if (onlyLast && !completed) {
    refuse("yieldOnlyLastSteps needs completed trajectories; leave yieldCompletedTrajectories out");
  }
  if (onlyLast && options.flattenData !== undefined) {
    refuse("yieldOnlyLastSteps gives one dimension already; leave flattenData out");
  }
  if (completed && options.resetAtEachIter === true) {
    refuse("resetAtEachIter would cut the trajectories that are to be completed; leave it out");
  }
  if (isAsync && options.resetAtEachIter === true) {
    refuse("resetAtEachIter needs environments that go in step, not a pool");
  }
  if (completed && options.flattenData === false) {
    refuse(
      "trajectories differ in length, so a batch of them has one dimension; " +
        "leave flattenData out",
    );
  }
  if (onlyLast) return "last_steps";
  if (completed) return "trajectories";
  return isAsync ? "steps" : "grid";
}

function planGroups<Item>(options: LLMCollectorOptions<Item>): GroupPlan | null {
  const { groupSize: size, totalDialogs = -1, incompleteGroups: incomplete = "fill" } = options;
  if (size === undefined) {
    const names = ["incompleteGroups", "maxGroupRefills", "overSample", "dropFlatGroups"] as const;
    const given = [...names, "admitGroup" as const].find((name) => options[name] !== undefined);
    if (given !== undefined) refuse(`${given} needs groupSize`);
    return null;
  }
  if (totalDialogs !== -1 && totalDialogs % size !== 0) {
    refuse(`totalDialogs must be a multiple of groupSize (${size}), not ${totalDialogs}`);
  }
  if (!["fill", "drop", "keep"].includes(incomplete)) {
    refuse(
      `incompleteGroups must be "fill", "drop" or "keep", not ${JSON.stringify(incomplete)}`,
    );
  }
  return {
    size,
    spares: options.overSample ?? 0,
    incomplete,
    maxRefills: options.maxGroupRefills ?? 8,
    dropFlat: options.dropFlatGroups ?? false,
    admit: options.admitGroup ?? null,
  };
}

function planStaleness<Item>(
  options: LLMCollectorOptions<Item>,
  grouping: Grouping,
): Pick<CollectorPlan, "versions" | "onStale" | "maxStaleness"> {
  const { maxStaleness = Infinity, trackPolicyVersion: track = maxStaleness !== Infinity } =
    options;
  const versions = makeTracker(track);
  if (versions === null && maxStaleness !== Infinity) {
    refuse("maxStaleness needs versions; leave trackPolicyVersion out or set it to true");
  }
  const onStale = options.onStale ?? (grouping === "grid" ? "keep" : "drop");
  if (!["drop", "retry", "keep"].includes(onStale)) {
    refuse(`onStale must be "drop", "retry" or "keep", not ${JSON.stringify(onStale)}`);
  }
  if (onStale !== "keep" && grouping === "grid") {
    refuse(
      `onStale "${onStale}" would leave holes in rows that go in step; use "keep", ` +
        "yieldCompletedTrajectories or a pool",
    );
  }
  if (onStale === "retry" && grouping === "steps") {
    refuse('onStale "retry" runs whole dialogs again; use it with yieldCompletedTrajectories');
  }
  return { versions, onStale, maxStaleness };
}

function makeTracker(track: boolean | VersionKind | PolicyVersion): PolicyVersion | null {
  if (track instanceof PolicyVersion) return track;
  if (track === false) return null;
  return new PolicyVersion(track === true ? "int" : track);
}

function checkNumbers<Item>(options: LLMCollectorOptions<Item>): void {
  requireWhole("dialogTurnsPerBatch", options.dialogTurnsPerBatch, 1);
  for (const name of ["totalDialogTurns", "totalDialogs"] as const) {
    if (options[name] === undefined || options[name] === -1) continue;
    requireWhole(name, options[name], 1, ", or -1 for no end");
  }
  const least = {
    maxTurns: 1,
    maxStaleness: 0,
    prefetchBatches: 0,
    dialogRetries: 0,
    maxConsecutiveFailures: 1,
    groupSize: 1,
    maxGroupRefills: 0,
    overSample: 0,
  } as const;
  for (const [name, minimum] of Object.entries(least)) {
    const value = options[name as keyof typeof least];
    if (value === undefined) continue;
    // A group of endlessly many members would never be whole.
    if (value === Infinity && name !== "groupSize" && name !== "overSample") continue;
    requireWhole(name, value, minimum);
  }
  for (const name of ["turnTimeoutMs", "environmentTimeoutMs"] as const) {
    const value = options[name];
    if (value === undefined || value > 0) continue;
    refuse(`${name} must be above 0, not ${value}`);
  }
  const { onDialogError = "throw", partialRollouts = "resume" } = options;
  if (partialRollouts !== "resume" && partialRollouts !== "keep") {
    refuse(`partialRollouts must be "resume" or "keep", not ${JSON.stringify(partialRollouts)}`);
  }
  if (onDialogError === "throw" || onDialogError === "skip") return;
  refuse(`onDialogError must be "throw" or "skip", not ${JSON.stringify(onDialogError)}`);
}

function requireWhole(name: string, value: unknown, minimum: number, or = ""): void {
  if (Number.isInteger(value) && (value as number) >= minimum) return;
  refuse(`${name} must be a whole number of at least ${minimum}${or}, not ${value}`);
}

function orEndless(total: number | undefined): number {
  return total === undefined || total === -1 ? Infinity : total;
}

function refuse(reason: string): never {
  throw new ValidationError(`Cannot make an LLMCollector: ${reason}`);
}
