/** The task: look a text up with a tool, then answer. Two steps, and only both of them are worth something. */
import type { Dataset } from "@sglang-rl/sglang-rl/datasets";
import type { AnswerReader } from "@sglang-rl/sglang-rl/chat";
import { EnvironmentPool, toolEnvironment } from "@sglang-rl/sglang-rl/environments";

/** The most turns of a dialog: a call, and the answer. */
export const TURNS = 2;

/** What is asked. */
export const questions = Array.from({ length: 64 }, (_, i) => `Text ${i}?`);

/**
 * How the model calls the tool. One of 100,000 weights cannot write JSON, so its call is an answer that
 * begins with a blank, and everything else is what it says. A real model needs no reader of its own.
 */
export const readAnswer: AnswerReader = (text) => ({
  reasoning: null,
  content: text,
  calls: text.startsWith(" ") ? [{ name: "count", arguments: { text } }] : [],
  faults: [],
});

/** How much of a text is the letter e, from 0 to 1. */
export function shareOfE(text: string): number {
  return (text.match(/e/gi)?.length ?? 0) / Math.max(1, text.length);
}

/** Environments in which an answer counts only after a call of the tool. */
export function lookUpEnvironments(tasks: Dataset<string>, size: number): EnvironmentPool {
  const make = () =>
    toolEnvironment({
      prompts: tasks,
      tools: {
        count: {
          description: "Tells how much of a text is the letter e",
          parameters: { type: "object", properties: { text: { type: "string" } } },
          call: (args) => `${Math.round(100 * shareOfE((args as { text: string }).text))} %`,
        },
      },
      reward: ({ message, turn }) => turn === 0 ? 0 : shareOfE(String(message.content)),
    });
  return new EnvironmentPool(make, { size });
}
