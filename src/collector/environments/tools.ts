import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { nearestName } from "../../internal/suggest.ts";
import { ValidationError } from "../../errors.ts";
import { callsOf, type Message, type ToolCall } from "../../policy/message.ts";
import type { Environment, EnvironmentAction } from "../environment.ts";
import { type TaskOptions, taskTaker, toMessages } from "./prompts.ts";
import { messageOf } from "../../internal/thrown.ts";

/** A tool that the policy may call. */
export interface Tool {
  /** What it does, for the model. */
  readonly description: string;
  /** JSON schema of its arguments. */
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Runs it. What it throws becomes the tool's answer to the model. */
  call(args: unknown, options: { signal: AbortSignal }): unknown;
}

/** Options of {@linkcode toolEnvironment}. */
export interface ToolEnvironmentOptions<Task> extends TaskOptions<Task> {
  /** The tools by name. */
  readonly tools: Readonly<Record<string, Tool>>;
  /** What the last answer, which calls no tool, is worth. */
  readonly reward: (action: EnvironmentAction, prompt: Task) => number | Promise<number>;
  /** Reward of a turn that calls tools. Default 0. */
  readonly toolTurnReward?: number | undefined;
  /** Put before every prompt that is a text. */
  readonly system?: string | undefined;
}

const NAMES = {
  prompts: true,
  promptOf: true,
  tools: true,
  reward: true,
  toolTurnReward: true,
  system: true,
} as const satisfies OptionNames<ToolEnvironmentOptions<never>>;

/**
 * An environment whose policy may call tools: each call is run and answered with a `tool` message,
 * and the first answer without a call ends the dialog. What looks like a call and is none is
 * answered with what is wrong with it. Limit the turns with the collector's `maxTurns`.
 *
 * @throws {ValidationError} Without prompts or tools.
 *
 * @example
 * ```ts
 * import { toolEnvironment } from "@sglang-rl/sglang-rl";
 *
 * const environment = toolEnvironment({
 *   prompts: ["What is 12 * 12?"],
 *   tools: {
 *     multiply: {
 *       description: "Multiplies two numbers",
 *       parameters: { type: "object", properties: { a: { type: "number" }, b: { type: "number" } } },
 *       call: (args) => (args as { a: number }).a * (args as { b: number }).b,
 *     },
 *   },
 *   reward: ({ message }) => String(message.content).includes("144") ? 1 : 0,
 * });
 * ```
 */
export function toolEnvironment<Task>(
  options: ToolEnvironmentOptions<Task>,
): Environment {
  checkOptionNames(options, NAMES, "toolEnvironment()");
  const { tools, reward, toolTurnReward = 0, system } = options;
  const takeTask = taskTaker(options, "toolEnvironment");
  if (Object.keys(tools).length === 0) {
    throw new ValidationError(
      "toolEnvironment needs at least one tool; else use promptEnvironment",
    );
  }
  const described = Object.entries(tools).map(([name, { description, parameters }]) => ({
    type: "function",
    function: { name, description, parameters },
  }));
  let task: Task;
  return {
    async reset({ group }) {
      const taken = await takeTask(group);
      task = taken.task;
      const messages = toMessages(taken.prompt, system);
      return { messages, tools: described, info: { prompt: taken.index } };
    },
    async step(action) {
      const calls = callsOf(action.message);
      const faults = action.message.toolCallFaults ?? [];
      if (calls.length === 0 && faults.length === 0) {
        return { reward: await reward(action, task), done: true };
      }
      const messages = await Promise.all(
        calls.map((call) => runTool(tools, call, action.signal)),
      );
      // The model reads the error, so that it can try again; an attempt at a call is no answer.
      const told = faults.map(({ reason }) => answer(`Error: no tool was called: ${reason}`));
      return {
        messages: [...messages, ...told],
        reward: toolTurnReward,
        done: false,
        info: { toolCalls: calls.length, toolCallFaults: faults.length },
      };
    },
  };
}

async function runTool(
  tools: Readonly<Record<string, Tool>>,
  call: ToolCall,
  signal: AbortSignal,
): Promise<Message> {
  const tool = Object.hasOwn(tools, call.name) ? tools[call.name] : undefined;
  if (tool === undefined) {
    const near = nearestName(call.name, Object.keys(tools));
    return answer(`Error: no tool ${call.name}` + (near === undefined ? "" : `; try ${near}`));
  }
  try {
    const result = await tool.call(call.arguments, { signal });
    return answer(typeof result === "string" ? result : JSON.stringify(result) ?? "");
  } catch (error) {
    if (signal.aborted) throw error;
    return answer(`Error: ${messageOf(error)}`);
  }
}

function answer(content: string): Message {
  return { role: "tool", content };
}
