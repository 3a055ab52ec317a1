import type { Message } from "../policy/message.ts";
import type { PolicyVersion } from "./policy_version.ts";
import type { RolloutRow } from "./row.ts";

/** Which dialog an environment is asked to begin. */
export interface DialogTask {
  /** Number of the dialog, from 0; a retry has the number of the dialog that it repeats. */
  readonly dialog: number;
  /** 0 for the first try, then 1, 2, ... */
  readonly attempt: number;
  /** The group: its members get the same task. Without groups, the number of the dialog. */
  readonly group: number;
  /** Which member of the group it is, from 0. */
  readonly member: number;
  /** Fires when the collector stops or the environment's deadline passes. */
  readonly signal: AbortSignal;
}

/** An episode that an environment is asked for; see {@linkcode Environment.episode}. */
export interface EpisodeTask extends DialogTask {
  /** Index of the environment. */
  readonly environment: number;
  /** Most turns of the dialog. */
  readonly maxTurns: number;
  /** Tells which policy version made which ids; `null` without a tracker. */
  readonly versions: PolicyVersion | null;
}

/** How a dialog begins. */
export interface EnvironmentReset {
  /** The messages that the policy answers first; at least one. */
  readonly messages: readonly Message[];
  /** Tools that the chat template shows to the model. */
  readonly tools?: readonly Readonly<Record<string, unknown>>[] | undefined;
  /** Anything to find again in the rows of this dialog, for example the task's name. */
  readonly info?: Readonly<Record<string, unknown>> | undefined;
}

/** What the policy said, as an environment sees it. */
export interface EnvironmentAction {
  /** The policy's message. */
  readonly message: Message;
  /** The sampled token ids, shape `(R)`. */
  readonly ids: Int32Array;
  /** Number of the turn in this dialog, from 0. */
  readonly turn: number;
  /** Whether the answer was cut by the limit on new tokens. */
  readonly cut: boolean;
  /** Fires when the collector stops or the environment's deadline passes. */
  readonly signal: AbortSignal;
}

/** What an environment makes of an answer. */
export interface EnvironmentStep {
  /** Messages that follow the answer: the user's next one, results of tools. Default none. */
  readonly messages?: readonly Message[] | undefined;
  /** Reward of this turn; a finite number. */
  readonly reward: number;
  /** Whether the dialog ended by itself. */
  readonly done: boolean;
  /** Whether the dialog was cut short, for example by a limit on turns. Default false. */
  readonly truncated?: boolean | undefined;
  /** Anything to find again in this row. */
  readonly info?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * A place where dialogs happen, one at a time: `reset` begins one, `step` takes the policy's answer.
 * Both may answer at once or later. An environment that holds resources gives `close`.
 *
 * @example
 * ```ts
 * import type { Environment } from "./environment.ts";
 *
 * const shout: Environment = {
 *   reset: ({ dialog }) => ({ messages: [{ role: "user", content: `Shout ${dialog}` }] }),
 *   step: ({ message }) => ({ reward: message.content.endsWith("!") ? 1 : 0, done: true }),
 * };
 * ```
 */
export interface Environment {
  /** Begins a dialog. Called again after a dialog ended, failed or was cut short. */
  reset(task: DialogTask): EnvironmentReset | Promise<EnvironmentReset>;
  /** Takes the policy's answer. */
  step(action: EnvironmentAction): EnvironmentStep | Promise<EnvironmentStep>;
  /**
   * A whole dialog at once, for environments whose agent asks the policy by itself, as
   * `agentEnvironment` of `./gateway` makes them. Where it is given, `reset` and `step` are not
   * called. It gives one row for each turn, the last one done. It has no deadline but its own.
   */
  episode?(task: EpisodeTask): Promise<readonly RolloutRow[]>;
  /** Frees what the environment holds. Called once, by the pool that made it. */
  close?(): void | Promise<void>;
}
