import type { RoutedExperts } from "../client/routed_experts.ts";
import type { FinishReason, VersionSpan } from "../client/types.ts";
import type { Message } from "../policy/message.ts";

/** One turn of a dialog: what was asked, what the policy sampled, what came of it. */
export interface RolloutRow {
  /** Number of the dialog. */
  readonly dialog: number;
  /** Which try of the dialog this is, from 0. */
  readonly attempt: number;
  /** The group that the dialog belongs to; without groups, the number of the dialog. */
  readonly group: number;
  /** Which member of its group the dialog is, from 0. */
  readonly member: number;
  /** Index of the environment. */
  readonly environment: number;
  /** Number of the turn, from 0. */
  readonly turn: number;
  /** The turn that the dialog goes on from; `null` for the first. */
  readonly parent: number | null;
  /**
   * Number of the row of ids that the turn belongs to, from 0. A turn whose prompt begins with the
   * ids of the turn before, as they were sampled, has the same; where the template writes the history
   * otherwise, a branch begins. {@linkcode RolloutBatch.joined} puts the turns of each together.
   */
  readonly branch: number;
  /**
   * Index of the first sampled id of the prompt for which tokenising its text gives another one; the
   * sampled ids were kept. `null` when there is none or it is not known.
   */
  readonly drift: number | null;
  /** The dialog before the answer. */
  readonly messages: readonly Message[];
  /** The answer. */
  readonly response: Message;
  /** The dialog after it: `messages`, `response` and what the environment added. */
  readonly nextMessages: readonly Message[];
  /**
   * Ids of the prompt `(P)`, when the policy knows them. Members of a group share one array where their
   * first prompts are the same: do not write into it.
   */
  readonly promptIds: Int32Array | null;
  /** The sampled ids `(R)`. */
  readonly responseIds: Int32Array;
  /** Log-probability of each sampled id `(R)`; `null` when not asked for. */
  readonly logProbs: Float32Array | null;
  /** Reward of this turn. */
  readonly reward: number;
  /** Whether the dialog ended with this turn, in whatever way. */
  readonly done: boolean;
  /** Whether it ended by being cut short. */
  readonly truncated: boolean;
  /** Why the generation ended. */
  readonly finishReason: FinishReason;
  /** Which of the servers' weight versions made which tokens, when the servers tell. */
  readonly weightVersions: readonly VersionSpan[] | null;
  /** The experts that the tokens went to; absent or `null` when not asked for. */
  readonly routedExperts?: RoutedExperts | null | undefined;
  /** Address of the server that answered, or of the router before it; `null` when not known. */
  readonly server: string | null;
  /**
   * The policy version that made each sampled id `(R)`, as an index into the version history; with
   * integer versions the index is the version. -1 where a server named weights that nobody here
   * knows. `null` without a version tracker.
   */
  readonly tokenVersions: Int32Array | null;
  /**
   * Whether `tokenVersions` is exact. When it is not, a sync happened within the call and the server
   * does not tell where, and every token then has the oldest version that it can have; or the weights
   * are not known.
   */
  readonly versionsExact: boolean;
  /** What the environment wanted to keep of `reset` and of this step. */
  readonly info: Readonly<Record<string, unknown>>;
}

/** All turns of one dialog, in order; the last has `done`. */
export interface Trajectory {
  /** Number of the dialog. */
  readonly dialog: number;
  /** Which try this is. */
  readonly attempt: number;
  /** The turns. */
  readonly rows: readonly RolloutRow[];
}

/** The oldest version among the tokens of some rows; `null` when no token has one. */
export function oldestVersion(rows: readonly RolloutRow[]): number | null {
  let oldest: number | null = null;
  for (const { tokenVersions } of rows) {
    for (const version of tokenVersions ?? []) {
      if (oldest === null || version < oldest) oldest = version;
    }
  }
  return oldest;
}
