import type { Environment, EpisodeTask } from "../collector/environment.ts";
import type { RolloutRow } from "../collector/row.ts";
import { SGLangError, StateError, ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { RecordingGateway } from "./gateway.ts";
import type { GatewaySession } from "./gateway_session.ts";
import type { SessionLimits } from "./options.ts";
import { pathUrl } from "./session_routes.ts";

/** Longest run of an agent, unless told otherwise. */
const AGENT_TIMEOUT_MS = 10 * 60_000;
/** Longest wait for an agent that was told to end. */
const LEAVE_TIMEOUT_MS = 5_000;

/** What an agent gets. */
export interface AgentTask extends EpisodeTask {
  /** Base URL for clients of OpenAI's API; it ends with `/v1`. */
  readonly baseUrl: string;
  /** Base URL for clients of Anthropic's API. */
  readonly anthropicBaseUrl: string;
  /** Its API key. */
  readonly apiKey: string;
  /** The same as variables: `OPENAI_BASE_URL`, `OPENAI_API_KEY`, `ANTHROPIC_BASE_URL`, … */
  readonly env: Readonly<Record<string, string>>;
  /** Its session, which takes rewards of single answers. */
  readonly session: GatewaySession;
}

/** What an agent's run came to. */
export interface AgentOutcome {
  /** Added to the session's reward. */
  readonly reward?: number | undefined;
  /** Whether the run was cut short, for example by a limit of its own. */
  readonly truncated?: boolean | undefined;
  /** Kept in each row. */
  readonly info?: Readonly<Record<string, unknown>> | undefined;
}

/** Runs an agent: it asks the gateway what it likes, and comes to a reward. */
export type RunAgent = (task: AgentTask) => Promise<AgentOutcome | number | void>;

/** Options of {@linkcode agentEnvironment}. */
export interface AgentEnvironmentOptions {
  /** Longest run of an agent in milliseconds. Default 10 minutes. */
  readonly timeoutMs?: number | undefined;
  /** What its session may use. */
  readonly limits?: Partial<SessionLimits> | undefined;
  /**
   * Judges a run that ended, by its rows; added to the other rewards. It may take its time: the
   * session has ended.
   */
  readonly grade?:
    | ((rows: readonly RolloutRow[], task: AgentTask) => number | Promise<number>)
    | undefined;
  /** The time to use. */
  readonly clock?: Clock | undefined;
}

const OPTION_NAMES = {
  timeoutMs: true,
  limits: true,
  grade: true,
  clock: true,
} as const satisfies OptionNames<AgentEnvironmentOptions>;

/**
 * An agent as an environment of a collector: for each dialog a session of the gateway is opened, the
 * agent runs with its base URL and key, and the session's rows are the dialog, with branches as they
 * came. Groups, versions and staleness are those of every environment. A run that throws is a dialog
 * that failed, and is tried again as the collector has it.
 *
 * @example
 * ```ts ignore
 * const pool = new EnvironmentPool(
 *   () => agentEnvironment(gateway, async ({ baseUrl, apiKey, group, signal }) => {
 *     const client = new OpenAI({ baseURL: baseUrl, apiKey });
 *     return await solve(tasks[group], client, { signal }); // its reward
 *   }),
 *   { size: 64 },
 * );
 * ```
 */
export function agentEnvironment(
  gateway: RecordingGateway,
  run: RunAgent,
  options: AgentEnvironmentOptions = {},
): Environment {
  checkOptionNames(options, OPTION_NAMES, "agentEnvironment()");
  const { timeoutMs = AGENT_TIMEOUT_MS, limits, grade, clock = systemClock } = options;
  const asked = () => {
    throw new StateError("An agent asks by itself: it has episodes, no steps");
  };
  return {
    reset: asked,
    step: asked,
    async episode(episode) {
      const { signal, versions, maxTurns, environment, dialog, attempt, group, member } = episode;
      await using session = gateway.open({
        limits: Number.isFinite(maxTurns) ? { maxTurns, ...limits } : limits,
        versions,
        dialog: { dialog, attempt, group, member, environment },
      });
      const running: Promise<unknown>[] = [];
      const { outcome, task } = await withDeadline(
        { phase: `the agent of dialog ${dialog}`, timeoutMs, signal, clock },
        async (signal) => {
          const task = taskOf(episode, { session, gateway, signal });
          const answer = run(task);
          running.push(answer);
          return { outcome: outcomeOf(await answer), task };
        },
      ).catch(async (error) => {
        await ended(running, clock);
        throw error;
      });
      if (outcome.reward !== undefined) session.reward(outcome.reward);
      const { rows } = await session.end();
      if (rows.length === 0) {
        throw new AgentError(`The agent of dialog ${dialog} asked nothing of the gateway`);
      }
      const graded = grade === undefined ? 0 : await grade(rows, task);
      if (!Number.isFinite(graded)) {
        throw new ValidationError(`grade() must give a finite number, not ${graded}`);
      }
      return finished(rows, { graded, outcome });
    },
  };
}

/** Waits until an agent that was ended has gone, as long as one may wait for that. */
async function ended(running: readonly Promise<unknown>[], clock: Clock): Promise<void> {
  const options = { phase: "the end of an agent", timeoutMs: LEAVE_TIMEOUT_MS, clock };
  await withDeadline(options, () => Promise.allSettled(running)).catch(() => {});
}

/** An agent that failed. */
export class AgentError extends SGLangError<"state"> {
  /** Says how. */
  constructor(message: string, options?: ErrorOptions) {
    super("state", message, options);
  }
}

function taskOf(
  episode: EpisodeTask,
  { session, gateway, signal }: {
    readonly session: GatewaySession;
    readonly gateway: RecordingGateway;
    readonly signal: AbortSignal;
  },
): AgentTask {
  const { baseUrl, key, id } = session;
  const anthropicBaseUrl = baseUrl.replace(/\/v1$/, "");
  return {
    ...episode,
    signal,
    session,
    baseUrl,
    anthropicBaseUrl,
    apiKey: key,
    env: {
      OPENAI_BASE_URL: baseUrl,
      OPENAI_API_KEY: key,
      ANTHROPIC_BASE_URL: anthropicBaseUrl,
      ANTHROPIC_API_KEY: key,
      SGLANG_RL_SESSION_URL: `${gateway.url}/sessions/${id}`,
      SGLANG_RL_SESSION_KEY: key,
      SGLANG_RL_BASE_URL_WITH_KEY: pathUrl(session),
    },
  };
}

function outcomeOf(value: AgentOutcome | number | void): AgentOutcome {
  const outcome = typeof value === "number" ? { reward: value } : value ?? {};
  const { reward } = outcome;
  if (reward === undefined || Number.isFinite(reward)) return outcome;
  throw new ValidationError(`An agent's reward must be a finite number, not ${reward}`);
}

function finished(
  rows: readonly RolloutRow[],
  { graded, outcome }: { readonly graded: number; readonly outcome: AgentOutcome },
): readonly RolloutRow[] {
  return rows.map((row, index) => {
    const isLast = index === rows.length - 1;
    return {
      ...row,
      info: { ...row.info, ...outcome.info },
      reward: row.reward + (isLast ? graded : 0),
      truncated: row.truncated || (isLast && outcome.truncated === true),
    };
  });
}
