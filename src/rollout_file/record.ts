import type { RoutedExperts } from "../client/routed_experts.ts";
import type { VersionSpan } from "../client/types.ts";
import type { Message } from "../policy/message.ts";

/** Name and version of the form in which batches go to a trainer; see `docs/collector.md`. */
export const ROLLOUT_SCHEMA = "sglang-rl.rollout/2";

/** The schemas that are read. */
export const rolloutSchemas = ["sglang-rl.rollout/1", ROLLOUT_SCHEMA] as const;

/** Name and version of a file's form; `docs/collector.md` has the columns. */
export type RolloutSchema = typeof rolloutSchemas[number];

/** Why a generation ended. */
export type FinishName = "stop" | "length" | "abort";

/** The reasons in the order in which columns of tensors number them. */
export const finishNames: readonly FinishName[] = ["stop", "length", "abort"];

/** One row of a rollout file: a turn of a dialog, with `P` ids of its prompt and `R` sampled ones. */
export interface RolloutRecord {
  /** Number of the dialog. */
  readonly dialog: number;
  /** Which try of the dialog this is, from 0. */
  readonly attempt: number;
  /** The group; without groups, and in files of schema /1, the number of the dialog. */
  readonly group: number;
  /** Which member of the group, from 0. */
  readonly member: number;
  /** Index of the environment. */
  readonly environment: number;
  /** Number of the turn, from 0. */
  readonly turn: number;
  /** The turn that it goes on from; `null` for the first, and in files of schema /1. */
  readonly parent: number | null;
  /** Number of the row of ids that the turn belongs to. */
  readonly branch: number;
  /** The dialog before the answer; `null` in safetensors files, which have ids only. */
  readonly messages: readonly Message[] | null;
  /** The answer as a message; `null` in safetensors files. */
  readonly response: Message | null;
  /** The text of the answer. */
  readonly responseText: string;
  /** Ids of the prompt `(P)`; `null` when they were not known. */
  readonly promptIds: Int32Array | null;
  /** The sampled ids `(R)`. */
  readonly responseIds: Int32Array;
  /** Log-probability of each sampled id `(R)`, -Infinity where JSON had `null`; `null` if unknown. */
  readonly logProbs: Float32Array | null;
  /** Policy version of each sampled id `(R)`, `null` for weights that nobody knew; `null` untracked. */
  readonly tokenVersions: readonly (number | string | null)[] | null;
  /** Whether `tokenVersions` is exact. */
  readonly versionsExact: boolean;
  /** Which of the servers' weight versions made which ids; `null` when it is not known. */
  readonly weightVersions: readonly VersionSpan[] | null;
  /** The experts that the tokens went to; absent where they were not asked for. */
  readonly routedExperts?: RoutedExperts | null | undefined;
  /** Address that answered; `null` when it is not known. */
  readonly server: string | null;
  /** Reward of this turn. */
  readonly reward: number;
  /** Whether the dialog ended with this turn. */
  readonly done: boolean;
  /** Whether it ended by being cut short. */
  readonly truncated: boolean;
  /** Whether it was older than the staleness bound. */
  readonly stale: boolean;
  /** Why the generation ended. */
  readonly finishReason: FinishName;
  /** What the environment wanted to keep. */
  readonly info: Readonly<Record<string, unknown>>;
}

/** The text of a message whose content is a text or parts. */
export function textOfContent(content: Message["content"] | undefined): string {
  if (content === null || content === undefined) return "";
  return typeof content === "string" ? content : content.map((part) => part.text ?? "").join("");
}

/** Integer versions as numbers, others as they are. */
export function versionOf(name: string): number | string {
  return /^\d+$/.test(name) ? Number(name) : name;
}
