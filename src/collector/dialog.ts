import { ContextOverflowError, SGLangError, ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { goesOn } from "../rollout/rows.ts";
import { messageOf } from "../internal/thrown.ts";
import type { Environment, EnvironmentReset, EnvironmentStep } from "./environment.ts";
import type { LLMCollectorOptions } from "./options.ts";
import type { CollectorPolicy, PolicyRequest, PreparedTurn } from "./policy.ts";
import type { PolicyVersion } from "./policy_version.ts";
import type { RolloutRow } from "./row.ts";
import { tokenVersions, wholeSpan } from "./token_versions.ts";
import { watchTurn } from "./watched.ts";

const DEFAULT_TURN_TIMEOUT_MS = 600_000;
const DEFAULT_ENVIRONMENT_TIMEOUT_MS = 60_000;

/** What every dialog of a collector shares. */
export interface DialogSetting {
  readonly policy: CollectorPolicy;
  readonly versions: PolicyVersion | null;
  /** Turns after which a dialog is cut short. */
  readonly maxTurns: number;
  /** Deadline of one call of the policy. */
  readonly turnTimeoutMs: number;
  /** Deadline of one call of an environment. */
  readonly environmentTimeoutMs: number;
  /** Limits calls into environments. */
  readonly environmentCalls: Semaphore;
  readonly clock: Clock;
}

/** What the dialogs of a collector share, from its options. */
export function dialogSetting(
  options: Pick<
    LLMCollectorOptions<unknown>,
    "maxTurns" | "turnTimeoutMs" | "environmentTimeoutMs" | "clock"
  >,
  { maxConcurrency, ...parts }: Pick<DialogSetting, "policy" | "versions"> & {
    readonly maxConcurrency: number;
  },
): DialogSetting {
  return {
    ...parts,
    maxTurns: options.maxTurns ?? Infinity,
    turnTimeoutMs: options.turnTimeoutMs ?? DEFAULT_TURN_TIMEOUT_MS,
    environmentTimeoutMs: options.environmentTimeoutMs ?? DEFAULT_ENVIRONMENT_TIMEOUT_MS,
    environmentCalls: new Semaphore(maxConcurrency),
    clock: options.clock ?? systemClock,
  };
}

/** One dialog to run. */
export interface DialogRun {
  readonly dialog: number;
  readonly attempt: number;
  readonly group: number;
  readonly member: number;
  /** Index of the environment. */
  readonly index: number;
  readonly environment: Environment;
  readonly signal: AbortSignal;
}

/** Says that the environment, not the policy, failed, so that its state can no longer be trusted. */
export class EnvironmentFault extends SGLangError {
  constructor(message: string, options: ErrorOptions) {
    super("state", message, options);
  }
}

/** Runs one dialog; each step of the generator is one turn. */
export async function* runDialog(
  run: DialogRun,
  setting: DialogSetting,
): AsyncGenerator<RolloutRow, void, void> {
  const { dialog, attempt, group, member, index } = run;
  if (run.environment.episode !== undefined) {
    yield* await runEpisode(run, setting);
    return;
  }
  const start = await callEnvironment(run, setting, "reset", async (signal) => {
    const reset = await run.environment.reset({ dialog, attempt, group, member, signal });
    checkReset(reset);
    return reset;
  });
  let request: TurnRequest = { messages: start.messages, turn: 0, state: undefined };
  let before: RolloutRow | null = null;
  const takeTurn = async (): Promise<TakenTurn> => {
    const { messages, turn } = request;
    const stampedIndex = setting.versions?.currentIndex ?? 0;
    const asked: TurnRequest = request;
    const sample = await callPolicy(
      { run, setting, turn },
      (signal) => setting.policy.call({ ...asked, tools: start.tools, dialog }, { signal }),
    ).catch((error) => {
      if (before !== null && error instanceof ContextOverflowError) return null;
      throw error;
    });
    if (sample === null) return { row: endOfContext(before!) };
    const tags = setting.versions === null
      ? null
      : tokenVersions(sample, { stampedIndex, history: setting.versions });
    const step = await callEnvironment(run, setting, "step", async (signal) => {
      const cut = sample.finishReason.type === "length";
      const { message, ids } = sample;
      const answer = await run.environment.step({ message, ids, turn, cut, signal });
      checkStep(answer);
      return answer;
    });
    const cutByLimit = !step.done && turn + 1 >= setting.maxTurns;
    const nextMessages = [...messages, sample.message, ...step.messages ?? []];
    const next: TurnRequest = { messages: nextMessages, turn: turn + 1, state: sample.state };
    const isAsked = !step.done && step.truncated !== true && !cutByLimit;
    const ahead: Ahead = isAsked
      ? await prepareNext(next, { run, setting, tools: start.tools })
      : { fits: true, prepared: undefined };
    const truncated = step.truncated === true || cutByLimit || !ahead.fits;
    const done = step.done || truncated;
    const ids = { promptIds: sample.promptIds, responseIds: sample.ids, logProbs: sample.logProbs };
    const row: RolloutRow = {
      dialog,
      attempt,
      group,
      member,
      environment: index,
      turn,
      parent: turn === 0 ? null : turn - 1,
      branch: before === null ? 0 : before.branch + (goesOn(before, ids) ? 0 : 1),
      drift: sample.turn?.prompt.drift ?? null,
      messages,
      response: sample.message,
      nextMessages,
      ...ids,
      reward: step.reward,
      done,
      truncated,
      finishReason: sample.finishReason,
      server: sample.server ?? null,
      weightVersions: sample.weightVersions ?? wholeSpan(sample),
      routedExperts: sample.routedExperts ?? null,
      tokenVersions: tags?.versions ?? null,
      versionsExact: tags?.exact ?? false,
      info: { ...start.info, ...step.info },
    };
    return { row, next: done ? undefined : next, ahead };
  };
  for (;;) {
    const { row, next, ahead } = await watchTurn(run, request.turn, takeTurn);
    yield row;
    if (next === undefined) return;
    if (ahead?.error !== undefined) throw ahead.error;
    before = row;
    request = { ...next, prepared: ahead?.prepared };
  }
}

/** A turn, and what the next one goes on from; without that the dialog has ended. */
interface TakenTurn {
  readonly row: RolloutRow;
  readonly next?: TurnRequest | undefined;
  readonly ahead?: Ahead | undefined;
}

/** A dialog that its environment drives: rows of the very dialog that was asked for. */
async function runEpisode(run: DialogRun, setting: DialogSetting): Promise<readonly RolloutRow[]> {
  const { dialog, attempt, group, member, index, signal } = run;
  const { maxTurns, versions } = setting;
  using _permit = await setting.environmentCalls.acquire(signal);
  const numbers = { dialog, attempt, group, member, environment: index };
  try {
    const rows = await run.environment.episode!({ ...numbers, signal, maxTurns, versions });
    const isEnded = rows.length > 0 &&
      rows.every(({ done }, at) => done === (at === rows.length - 1));
    if (!isEnded) {
      throw new ValidationError("episode() must give at least one row, of which the last is done");
    }
    return rows.map((row) => ({ ...row, ...numbers }));
  } catch (error) {
    throw new EnvironmentFault(
      `Environment ${index} failed in episode() of dialog ${dialog}: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/**
 * The end of a dialog of which only the server's refusal told that the context has no room left: a
 * turn in which nothing was sampled, so that the turns before it are kept.
 */
function endOfContext(before: RolloutRow): RolloutRow {
  return {
    ...before,
    turn: before.turn + 1,
    parent: before.turn,
    branch: before.branch + 1,
    drift: null,
    messages: before.nextMessages,
    response: { role: "assistant", content: "", isComplete: false },
    promptIds: null,
    responseIds: new Int32Array(),
    logProbs: before.logProbs && new Float32Array(),
    reward: 0,
    done: true,
    truncated: true,
    finishReason: { type: "length", length: 0 },
    weightVersions: before.weightVersions && [],
    routedExperts: null,
    tokenVersions: before.tokenVersions && new Int32Array(),
  };
}

/** What of a request changes from turn to turn. */
type TurnRequest = Pick<PolicyRequest, "messages" | "turn" | "state" | "prepared">;

/** A turn that was prepared, or the error that it will fail with. */
type Ahead = PreparedTurn & { readonly error?: unknown };

/** An error in the preparation must not cost the row of the turn before. */
async function prepareNext(
  request: TurnRequest,
  { run, setting, tools }: {
    run: DialogRun;
    setting: DialogSetting;
    tools: EnvironmentReset["tools"];
  },
): Promise<Ahead> {
  const { policy } = setting;
  if (policy.prepare === undefined) return { fits: true, prepared: undefined };
  try {
    return await callPolicy(
      { run, setting, turn: request.turn },
      (signal) => policy.prepare!({ ...request, tools, dialog: run.dialog }, { signal }),
    );
  } catch (error) {
    if (run.signal.aborted) throw error;
    return { fits: true, prepared: undefined, error };
  }
}

async function callPolicy<T>(
  { run, setting, turn }: { run: DialogRun; setting: DialogSetting; turn: number },
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return await withDeadline({
    phase: `policy call of dialog ${run.dialog}, turn ${turn}`,
    timeoutMs: setting.turnTimeoutMs,
    signal: run.signal,
    clock: setting.clock,
  }, call);
}

async function callEnvironment<T>(
  run: DialogRun,
  setting: DialogSetting,
  call: "reset" | "step",
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  using _permit = await setting.environmentCalls.acquire(run.signal);
  try {
    return await withDeadline({
      phase: `${call} of environment ${run.index}`,
      timeoutMs: setting.environmentTimeoutMs,
      signal: run.signal,
      clock: setting.clock,
    }, work);
  } catch (error) {
    const reason = messageOf(error);
    throw new EnvironmentFault(
      `Environment ${run.index} failed in ${call}() of dialog ${run.dialog}: ${reason}`,
      { cause: error },
    );
  }
}

function checkReset(reset: EnvironmentReset): void {
  if (Array.isArray(reset?.messages) && reset.messages.length > 0) return;
  throw new ValidationError("reset() must give at least one message for the policy to answer");
}

function checkStep(step: EnvironmentStep): void {
  if (!Number.isFinite(step?.reward)) {
    throw new ValidationError(`step() must give a finite reward, not ${step?.reward}`);
  }
  if (typeof step.done === "boolean") return;
  throw new ValidationError(`step() must give done as true or false, not ${step.done}`);
}
