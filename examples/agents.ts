/**
 * Agents that are written with other people's clients, trained as they are: the same agent with a tool,
 * written with the clients of OpenAI, Anthropic, Vercel (ai) and LangChain, asks a recording gateway,
 * and the model behind it learns to use the tool, on a small embedded server, no GPU and no Python
 * needed. The model is random at first; each agent begins with it anew.
 *
 *     deno run -A examples/agents.ts
 *     deno run -A examples/agents.ts openai ai      # some of them
 *     deno run -A examples/agents.ts --steps 12     # for longer
 *
 * Further options: --pairs 4 (candidates of a step, two by two)  --dialogs 12 (with each candidate)
 */
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { type BaseMessage, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, isStepCount, jsonSchema, tool } from "ai";
import OpenAI from "openai";
import { parseArgs } from "node:util";
import { LLMCollector, SGLangWeightSyncScheme, SGLangWrapper } from "@sglang-rl/sglang-rl";
import type { AnswerReader } from "@sglang-rl/sglang-rl/chat";
import { agentEnvironment, type AgentTask, RecordingGateway } from "@sglang-rl/sglang-rl/gateway";
import { Parameters } from "./evolution_strategies/parameters.ts";
import { openServers } from "./evolution_strategies/servers.ts";
import { EvolutionStrategy } from "./evolution_strategies/strategy.ts";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    steps: { type: "string", default: "6" },
    pairs: { type: "string", default: "4" },
    dialogs: { type: "string", default: "12" },
  },
});

/** Most calls of the tool by one agent, which are its reward. */
const MOST_CALLS = 2;
/** Length of an answer. */
const TOKENS = 10;
const dialogs = Number(flags.dialogs);
const question = (task: number) => `What comes after ${task}? You may add.`;
const description = "Adds two numbers";
const parameters = {
  type: "object" as const,
  properties: { a: { type: "number" }, b: { type: "number" } },
  required: ["a", "b"],
};
const add = (args: unknown): string => {
  const { a = 0, b = 0 } = args as { a?: number; b?: number };
  return String(a + b);
};

/** The agents: each asks, and calls its tool while the model wants it. They tell how often that was. */
const agents: Readonly<Record<string, (task: AgentTask) => Promise<number>>> = {
  async openai({ baseUrl, apiKey, dialog, signal }) {
    const client = new OpenAI({ baseURL: baseUrl, apiKey });
    const messages: OpenAI.Chat.ChatCompletionMessageParam[] = [
      { role: "user", content: question(dialog) },
    ];
    const tools: OpenAI.Chat.ChatCompletionTool[] = [
      { type: "function", function: { name: "add", description, parameters } },
    ];
    for (let called = 0;; called++) {
      const answer = await client.chat.completions.create({ model: "policy", messages, tools }, {
        signal,
      });
      const { message } = answer.choices[0]!;
      const calls = message.tool_calls ?? [];
      if (calls.length === 0 || called === MOST_CALLS) return called;
      messages.push(message);
      for (const call of calls) {
        const args = call.type === "function" ? JSON.parse(call.function.arguments) : {};
        messages.push({ role: "tool", tool_call_id: call.id, content: add(args) });
      }
    }
  },

  async anthropic({ anthropicBaseUrl, apiKey, dialog, signal }) {
    const client = new Anthropic({ baseURL: anthropicBaseUrl, apiKey });
    const messages: Anthropic.MessageParam[] = [{ role: "user", content: question(dialog) }];
    const tools: Anthropic.Tool[] = [{ name: "add", description, input_schema: parameters }];
    for (let called = 0;; called++) {
      const request = { model: "policy", max_tokens: TOKENS, messages, tools };
      const { content, stop_reason } = await client.messages.create(request, { signal });
      if (stop_reason !== "tool_use" || called === MOST_CALLS) return called;
      messages.push({ role: "assistant", content });
      const results = content.flatMap((block): Anthropic.ToolResultBlockParam[] =>
        block.type === "tool_use"
          ? [{ type: "tool_result", tool_use_id: block.id, content: add(block.input) }]
          : []
      );
      messages.push({ role: "user", content: results });
    }
  },

  async ai({ baseUrl, apiKey, dialog, signal }) {
    const inputSchema = jsonSchema<{ a: number; b: number }>(parameters);
    let called = 0;
    const execute = (args: unknown) => {
      called++;
      return add(args);
    };
    await generateText({
      model: createOpenAI({ baseURL: baseUrl, apiKey }).chat("policy"),
      prompt: question(dialog),
      tools: { add: tool({ description, inputSchema, execute }) },
      stopWhen: isStepCount(MOST_CALLS + 1),
      abortSignal: signal,
    });
    return Math.min(called, MOST_CALLS);
  },

  async langchain({ baseUrl, apiKey, dialog, signal }) {
    const model = new ChatOpenAI({
      model: "policy",
      apiKey,
      configuration: { baseURL: baseUrl },
    }).bindTools([{ type: "function", function: { name: "add", description, parameters } }]);
    const messages: BaseMessage[] = [new HumanMessage(question(dialog))];
    for (let called = 0;; called++) {
      const answer = await model.invoke(messages, { signal });
      const calls = answer.tool_calls ?? [];
      if (calls.length === 0 || called === MOST_CALLS) return called;
      messages.push(answer);
      for (const { id, args } of calls) {
        messages.push(new ToolMessage({ tool_call_id: id!, content: add(args) }));
      }
    }
  },
};

/**
 * Reads answers as calls of the tool. A tiny model that knows nothing writes no JSON: what has a digit
 * or a sign of arithmetic in it is taken for a call. With a model that can, leave this out.
 */
const readAnswer: AnswerReader = (text) => {
  const isCall = /[0-9(){}=<>*]/.test(text);
  const calls = isCall ? [{ name: "add", arguments: { a: text.length, b: 1 } }] : [];
  return { reasoning: null, content: text, calls, faults: [] };
};

const stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort(new Error("interrupted")));
const { signal } = stop;

// 1. A server that answers the same prompt alike, so that rewards compare weights and not luck; a policy, and the gateway before it.
await using servers = await openServers("embedded", { urls: [], deterministic: true, signal });
const { engine, model } = servers;
const policy = new SGLangWrapper(engine, {
  generateKwargs: { maxNewTokens: TOKENS, ignoreEos: true },
  readAnswer,
});
await using gateway = await RecordingGateway.listen(policy);

// 2. What trains: evolution strategies, which need nothing but rewards.
const weights = await Parameters.read(model);
await using sender = new SGLangWeightSyncScheme({ engine, soleTrainer: true }).createSender();
await sender.initAllWorkersGroup(weights.metadata, { signal });

for (const name of positionals.length > 0 ? positionals : Object.keys(agents)) await train(name);

/** Trains the model behind an agent, which begins anew. */
async function train(name: string): Promise<void> {
  const run = agents[name];
  if (run === undefined) throw new Error(`There is no agent ${name}`);
  // 3. Each agent is an environment; its rows are what a trainer with gradients would take.
  const environments = Array.from(
    { length: dialogs },
    () =>
      agentEnvironment(gateway, async (task) => {
        const called = await run({ ...task, dialog: first + task.dialog });
        return called / MOST_CALLS;
      }),
  );
  let tokens = 0;
  let first = 0;
  /** Brings weights to the servers, and lets the agents run once: their mean reward. */
  const rewardOf = async (candidate: Float32Array, from = 0): Promise<number> => {
    first = from;
    await sender.updateWeights(weights.toStateDict(candidate), { signal });
    await using collector = new LLMCollector(environments, {
      policy,
      dialogTurnsPerBatch: dialogs,
      totalDialogs: dialogs,
      yieldCompletedTrajectories: true,
      signal,
    });
    let sum = 0;
    for await (const { rows } of collector) {
      sum += rows.reduce((sum, { reward }) => sum + reward, 0);
      tokens += rows.reduce((sum, { responseIds }) => sum + responseIds.length, 0);
    }
    return sum / dialogs;
  };
  /** The reward of weights, of four times as many questions that training does not have. */
  const measured = async (candidate: Float32Array): Promise<number> => {
    let sum = 0;
    for (let time = 1; time <= 4; time++) sum += await rewardOf(candidate, 100 * time);
    return sum / 4;
  };
  const strategy = new EvolutionStrategy(weights.vector, {
    pairs: Number(flags.pairs),
    noise: 2.5,
    stepSize: 4,
    seed: 0,
  });
  const before = await measured(weights.vector);
  for (let step = 0; step < Number(flags.steps); step++) {
    const rewards: number[] = [];
    for (const candidate of strategy.ask()) rewards.push(await rewardOf(candidate));
    strategy.tell(rewards);
    const mean = rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length;
    say(`${name}, step ${step}: mean reward ${mean.toFixed(3)}`);
  }
  const after = await measured(strategy.center);
  say(
    `${name}: reward ${before.toFixed(3)} before, ${after.toFixed(3)} after; ` +
      `${tokens} tokens recorded`,
  );
}

function say(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}
