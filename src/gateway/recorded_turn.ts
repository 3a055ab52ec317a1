import type { TopLogProbs } from "../client/types.ts";
import type { Turn } from "../rollout/turn.ts";
import type { ShownAnswer } from "./asked.ts";

/** A turn of a session, and what its agent was shown of it. */
export interface RecordedTurn {
  /** Number of the turn in its session, from 0, in the order in which answers ended. */
  readonly number: number;
  /** Id of the answer, as the agent was told it; several samples of one prompt share it. */
  readonly id: string;
  /** The turn, id for id. */
  readonly turn: Turn;
  /** The turn that its conversation goes on from; `null` where it begins. */
  readonly parent: RecordedTurn | null;
  /** What the agent was shown. */
  readonly shown: ShownAnswer;
  /** Name of the model that was asked for. */
  readonly model: string;
  /** Whether the client said that it asked again. */
  readonly isRetry: boolean;
  /** Whether the agent went away before the answer ended, or a pause cut it and it cannot go on. */
  readonly isAborted: boolean;
  /** Index of the policy version when it was asked for; `null` without a tracker. */
  readonly stamp: number | null;
  /** The likeliest ids at each place, where the agent asked for them. */
  readonly topLogProbs: readonly TopLogProbs[] | null;
  /** Ids of the prompt that came from a prefix cache; `null` where no server told. */
  readonly cachedTokens: number | null;
}
