import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { ValidationError } from "../../errors.ts";
import type { Message } from "../../policy/message.ts";
import type { Environment, EnvironmentAction } from "../environment.ts";

/** A prompt of {@linkcode promptEnvironment}: the user's text, or a whole conversation. */
export type PromptTask = string | readonly Message[];

/** Tasks by number, for example a `Dataset` of `./datasets`; group `g` has task `g`. */
export interface TaskSource<Task> {
  /** The task of a number from 0. */
  task(index: number): Task | Promise<Task>;
}

/** What environments of tasks are made of. */
export interface TaskOptions<Task> {
  /**
   * The tasks. Of a list, group `g` (without groups: dialog `g`) has task `g` modulo their number; of
   * a dataset task `g`.
   */
  readonly prompts: readonly Task[] | TaskSource<Task>;
  /** What the model sees of a task; needed where a task is neither a text nor a conversation. */
  readonly promptOf?: ((task: Task) => PromptTask) | undefined;
}

/** Options of {@linkcode promptEnvironment}. */
export interface PromptEnvironmentOptions<Task> extends TaskOptions<Task> {
  /** What an answer is worth. */
  readonly reward: (action: EnvironmentAction, prompt: Task) => number | Promise<number>;
  /** Put before every prompt that is a text. */
  readonly system?: string | undefined;
}

const NAMES = {
  prompts: true,
  promptOf: true,
  reward: true,
  system: true,
} as const satisfies OptionNames<PromptEnvironmentOptions<never>>;

/**
 * An environment of single turns: a prompt, an answer, a reward.
 *
 * @throws {ValidationError} Without prompts.
 *
 * @example
 * ```ts
 * import { promptEnvironment } from "@sglang-rl/sglang-rl";
 *
 * const environment = promptEnvironment({
 *   prompts: ["What is 2 + 2?", "What is 3 + 4?"],
 *   reward: ({ message }) => String(message.content).includes("7") ? 1 : 0,
 * });
 * ```
 */
export function promptEnvironment<Task>(
  options: PromptEnvironmentOptions<Task>,
): Environment {
  checkOptionNames(options, NAMES, "promptEnvironment()");
  const { reward, system } = options;
  const takeTask = taskTaker(options, "promptEnvironment");
  let task: Task;
  return {
    async reset({ group }) {
      const taken = await takeTask(group);
      task = taken.task;
      return { messages: toMessages(taken.prompt, system), info: { prompt: taken.index } };
    },
    async step(action) {
      return { reward: await reward(action, task), done: true };
    },
  };
}

/** A task, and what the model sees of it. */
export interface TakenTask<Task> {
  readonly task: Task;
  readonly prompt: PromptTask;
  readonly index: number;
}

/**
 * Takes the task of a group.
 *
 * @throws {ValidationError} At once, for an empty list.
 */
export function taskTaker<Task>(
  { prompts, promptOf = (task) => task as PromptTask }: TaskOptions<Task>,
  name: string,
): (group: number) => Promise<TakenTask<Task>> {
  const list = "task" in prompts ? null : prompts;
  if (list?.length === 0) {
    throw new ValidationError(`${name} needs at least one prompt`);
  }
  return async (group) => {
    const index = list === null ? group : group % list.length;
    const task = "task" in prompts ? await prompts.task(index) : prompts[index]!;
    const prompt = promptOf(task);
    if (typeof prompt === "string" || Array.isArray(prompt)) return { task, prompt, index };
    throw new ValidationError(
      `${name}: task ${index} is neither a text nor a conversation; give promptOf`,
    );
  };
}

/** A prompt as a conversation. */
export function toMessages(prompt: PromptTask, system: string | undefined): readonly Message[] {
  if (typeof prompt !== "string") return prompt;
  const user = { role: "user", content: prompt };
  return system === undefined ? [user] : [{ role: "system", content: system }, user];
}
