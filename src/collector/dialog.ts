import { SGLangError, ValidationError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import type { Semaphore } from "../internal/semaphore.ts";
import type { Message } from "../policy/message.ts";
import type { Environment, EnvironmentReset, EnvironmentStep } from "./environment.ts";
import type { CollectorPolicy, PolicySample } from "./policy.ts";
import type { PolicyVersion } from "./policy_version.ts";
import type { RolloutRow } from "./row.ts";
import { tokenVersions } from "./token_versions.ts";
import { messageOf } from "../internal/thrown.ts";

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

/** One dialog to run. */
export interface DialogRun {
  readonly dialog: number;
  readonly attempt: number;
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
  const { dialog, attempt, index } = run;
  const start = await callEnvironment(run, setting, "reset", async (signal) => {
    const reset = await run.environment.reset({ dialog, attempt, signal });
    checkReset(reset);
    return reset;
  });
  let messages: readonly Message[] = start.messages;
  let state: unknown;
  for (let turn = 0;; turn++) {
    const stampedIndex = setting.versions?.currentIndex ?? 0;
    const sample: PolicySample = await withDeadline(
      {
        phase: `policy call of dialog ${dialog}, turn ${turn}`,
        timeoutMs: setting.turnTimeoutMs,
        signal: run.signal,
        clock: setting.clock,
      },
      (signal) =>
        setting.policy.call({ messages, tools: start.tools, dialog, turn, state }, { signal }),
    );
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
    const truncated = step.truncated === true || cutByLimit;
    const done = step.done || truncated;
    const nextMessages = [...messages, sample.message, ...step.messages ?? []];
    yield {
      dialog,
      attempt,
      environment: index,
      turn,
      messages,
      response: sample.message,
      nextMessages,
      promptIds: sample.promptIds,
      responseIds: sample.ids,
      logProbs: sample.logProbs,
      reward: step.reward,
      done,
      truncated,
      finishReason: sample.finishReason,
      weightVersions: sample.weightVersions ?? wholeSpan(sample),
      tokenVersions: tags?.versions ?? null,
      versionsExact: tags?.exact ?? false,
      info: { ...start.info, ...step.info },
    };
    if (done) return;
    messages = nextMessages;
    state = sample.state;
  }
}

function wholeSpan(sample: PolicySample): RolloutRow["weightVersions"] {
  if (sample.weightVersion === null) return null;
  return [{ version: sample.weightVersion, start: 0, end: sample.ids.length }];
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
    if (run.signal.aborted) throw error;
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
