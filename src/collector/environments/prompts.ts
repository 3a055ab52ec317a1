import { ValidationError } from "../../errors.ts";
import type { Message } from "../../policy/message.ts";
import type { Environment, EnvironmentAction } from "../environment.ts";

/** A prompt of {@linkcode promptEnvironment}: the user's text, or a whole conversation. */
export type PromptTask = string | readonly Message[];

/** Options of {@linkcode promptEnvironment}. */
export interface PromptEnvironmentOptions<Task extends PromptTask> {
  /** The prompts; group `g` (without groups: dialog `g`) has prompt `g` modulo their number. */
  readonly prompts: readonly Task[];
  /** What an answer is worth. */
  readonly reward: (action: EnvironmentAction, prompt: Task) => number | Promise<number>;
  /** Put before every prompt that is a text. */
  readonly system?: string | undefined;
}

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
export function promptEnvironment<Task extends PromptTask>(
  options: PromptEnvironmentOptions<Task>,
): Environment {
  const { prompts, reward, system } = options;
  if (prompts.length === 0) {
    throw new ValidationError("promptEnvironment needs at least one prompt");
  }
  let prompt = prompts[0]!;
  return {
    reset({ group }) {
      const index = group % prompts.length;
      prompt = prompts[index]!;
      return { messages: toMessages(prompt, system), info: { prompt: index } };
    },
    async step(action) {
      return { reward: await reward(action, prompt), done: true };
    },
  };
}

/** A prompt as a conversation. */
export function toMessages(prompt: PromptTask, system: string | undefined): readonly Message[] {
  if (typeof prompt !== "string") return prompt;
  const user = { role: "user", content: prompt };
  return system === undefined ? [user] : [{ role: "system", content: system }, user];
}
