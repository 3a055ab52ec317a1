import { checkOptionNames, onlyNamed, type OptionNames } from "../internal/option_names.ts";
import type { Environment, EnvironmentAction } from "../collector/environment.ts";
import { type TaskOptions, taskTaker, toMessages } from "../collector/environments/prompts.ts";
import { LimitError } from "../errors.ts";
import { textOf } from "../policy/message.ts";
import {
  runSandboxed,
  SANDBOX_LIMIT_NAMES,
  type SandboxLimits,
  type SandboxResult,
} from "./run_sandboxed.ts";

/** Options of {@linkcode sandboxEnvironment}. */
export interface SandboxEnvironmentOptions<Task> extends TaskOptions<Task>, SandboxLimits {
  /** What a run is worth. Default 1 when the code ran to its end without an error, else 0. */
  readonly reward?:
    | ((result: SandboxResult, task: Task, action: EnvironmentAction) => number | Promise<number>)
    | undefined;
  /** The program that is run, for example the code with the task's tests behind it. */
  readonly programOf?: ((code: string, task: Task) => string) | undefined;
  /** The code in an answer; `null` for none. Default: the last fenced block, else the whole text. */
  readonly codeOf?: ((text: string) => string | null) | undefined;
  /** Answers that the model may give; after one that failed it is shown what happened. Default 1. */
  readonly tries?: number | undefined;
  /** Put before every prompt that is a text. */
  readonly system?: string | undefined;
}

const NAMES = {
  ...SANDBOX_LIMIT_NAMES,
  prompts: true,
  promptOf: true,
  reward: true,
  programOf: true,
  codeOf: true,
  tries: true,
  system: true,
} as const satisfies OptionNames<SandboxEnvironmentOptions<never>>;

/**
 * An environment of code that the policy writes, run by {@linkcode runSandboxed}: no permission but
 * those given; time, processor, memory and output are limited. What the sandbox refused is told to the
 * model, and is in `info.sandbox` of the row.
 *
 * @example
 * ```ts
 * import { sandboxEnvironment } from "@sglang-rl/sglang-rl/sandbox";
 *
 * const environment = sandboxEnvironment({
 *   prompts: [{ text: "Write a function `add` in TypeScript.", test: "if (add(2, 3) !== 5) throw 1" }],
 *   promptOf: ({ text }) => text,
 *   programOf: (code, { test }) => `${code}\n${test}`,
 *   tries: 2,
 * });
 * ```
 */
export function sandboxEnvironment<Task>(options: SandboxEnvironmentOptions<Task>): Environment {
  checkOptionNames(options, NAMES, "sandboxEnvironment()");
  const limits = onlyNamed(options, SANDBOX_LIMIT_NAMES);
  const { programOf = (code) => code, codeOf = lastBlock, tries = 1, system } = options;
  const { reward = ({ ok }) => ok ? 1 : 0 } = options;
  const takeTask = taskTaker(options, "sandboxEnvironment");
  let task: Task;
  return {
    async reset({ group }) {
      const taken = await takeTask(group);
      task = taken.task;
      return { messages: toMessages(taken.prompt, system), info: { prompt: taken.index } };
    },
    async step(action) {
      const code = codeOf(textOf(action.message));
      const result = code === null
        ? failed("The answer has no code.")
        : await runOrRefuse(programOf(code, task), { ...limits, signal: action.signal });
      const isLast = result.ok || action.turn + 1 >= tries;
      const { ok, ending, denied } = result;
      return {
        reward: await reward(result, task, action),
        done: isLast,
        messages: isLast ? [] : [{ role: "user", content: describe(result) }],
        info: { sandbox: { ok, ending, denied } },
      };
    },
  };
}

/** Code that is too long is the model's fault, not the environment's. */
async function runOrRefuse(
  program: string,
  options: SandboxLimits & { signal: AbortSignal },
): Promise<SandboxResult> {
  try {
    return await runSandboxed(program, options);
  } catch (error) {
    if (error instanceof LimitError) return failed(error.message);
    throw error;
  }
}

function failed(stderr: string): SandboxResult {
  return { ok: false, ending: "exit", stdout: "", stderr, denied: null };
}

/** A result in words for the model. */
function describe({ ending, stdout, stderr, denied }: SandboxResult): string {
  const why = {
    exit: "The code failed.",
    time: "The code took too long and was stopped.",
    output: "The code printed too much and was stopped.",
    killed: "The code used too much memory or processor time and was stopped.",
  }[ending];
  const refused = denied === null ? "" : ` It has no ${denied} permission here.`;
  return [why + refused, stdout && `Output:\n${stdout}`, stderr && `Errors:\n${stderr}`]
    .filter((part) => part !== "").join("\n");
}

function lastBlock(text: string): string | null {
  const fence = "```";
  const end = text.lastIndexOf(fence);
  if (end < 0) return text.trim() === "" ? null : text;
  const start = text.lastIndexOf(fence, end - 1);
  // A block without an end was cut.
  if (start < 0) return text.slice(text.indexOf("\n", end) + 1);
  return text.slice(text.indexOf("\n", start) + 1, end);
}
