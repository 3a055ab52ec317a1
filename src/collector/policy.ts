import type { Message } from "../policy/message.ts";
import type { Sample } from "../rollout/sample.ts";
import type { Turn } from "../rollout/turn.ts";

/** One turn that the collector asks of a policy. */
export interface PolicyRequest {
  /** The dialog so far; the last message is not the assistant's. */
  readonly messages: readonly Message[];
  /** Tools that the environment offers. */
  readonly tools: readonly Readonly<Record<string, unknown>>[] | undefined;
  /** Number of the dialog. */
  readonly dialog: number;
  /** Number of the turn in the dialog. */
  readonly turn: number;
  /**
   * What the policy gave as {@linkcode PolicySample.state} on the turn before; `undefined` on the
   * first. It lets a policy keep the exact ids of earlier turns.
   */
  readonly state: unknown;
  /** What {@linkcode CollectorPolicy.prepare} gave for this turn. */
  readonly prepared?: unknown;
}

/** A turn that was prepared. */
export interface PreparedTurn {
  /** Whether the context has room for an answer. */
  readonly fits: boolean;
  /** Handed to {@linkcode CollectorPolicy.call} as {@linkcode PolicyRequest.prepared}. */
  readonly prepared: unknown;
}

/** What a policy answered. */
export interface PolicySample extends Sample {
  /** The answer as a message. */
  readonly message: Message;
  /** The turn, where the policy makes turns; it tells how the prompt came about. */
  readonly turn?: Turn | undefined;
  /** Kept for the next turn of the same dialog. */
  readonly state?: unknown;
}

/** What the collector needs of a policy. */
export interface CollectorPolicy {
  /** Answers one turn. */
  call(request: PolicyRequest, options: { signal: AbortSignal }): Promise<PolicySample>;
  /**
   * Prepares a dialog's next turn before the row of the present one is given out: where the context
   * has no room for another answer, the dialog ends with the present turn, truncated.
   */
  prepare?(request: PolicyRequest, options: { signal: AbortSignal }): Promise<PreparedTurn>;
  /** The servers' present weight versions; asked once, before the first dialog. */
  weightVersions?(options: { signal: AbortSignal }): Promise<readonly string[]>;
  /** Told once which collector uses it. */
  registerCollector?(collector: object): void;
  /** The model or engine behind it, for `getPolicyModel()`. */
  readonly model?: unknown;
}
