/**
 * Agents that are written with other people's clients, trained as they are: the same agent with the
 * clients of OpenAI, Anthropic, Vercel (ai) and LangChain asks a recording gateway, and the model
 * behind it is trained for a few steps on a small embedded server, no GPU and no Python needed.
 *
 *     deno run -A examples/agents.ts
 *     deno run -A examples/agents.ts openai ai      # some of them
 *     deno run -A examples/agents.ts --steps 12
 */
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { type BaseMessage, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, isStepCount, jsonSchema, tool } from "ai";
import OpenAI from "openai";
import { parseArgs } from "node:util";
import { LLMCollector, SGLangWeightSyncScheme, SGLangWrapper } from "@sglang-rl/sglang-rl";
import { agentEnvironment, type AgentTask, RecordingGateway } from "@sglang-rl/sglang-rl/gateway";
import { Parameters } from "./evolution_strategies/parameters.ts";
import { openServers } from "./evolution_strategies/servers.ts";
import { EvolutionStrategy } from "./evolution_strategies/strategy.ts";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { steps: { type: "string", default: "3" }, pairs: { type: "string", default: "3" } },
});

/** Most rounds of an agent with its tool. */
const ROUNDS = 4;
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

/** The agents: each asks, calls its tool while the model wants it, and gives the last answer. */
const agents: Readonly<Record<string, (task: AgentTask) => Promise<string>>> = {
  async openai({ baseUrl, apiKey, dialog, signal }) {
    const client = new OpenAI({ baseURL: baseUrl, apiKey });
    const messages: OpenAI.Chat.ChatCompletionMessageParam[] = [
      { role: "user", content: question(dialog) },
    ];
    const tools: OpenAI.Chat.ChatCompletionTool[] = [
      { type: "function", function: { name: "add", description, parameters } },
    ];
    for (let round = 1;; round++) {
      const answer = await client.chat.completions.create({ model: "policy", messages, tools }, {
        signal,
      });
      const { message } = answer.choices[0]!;
      const calls = message.tool_calls ?? [];
      if (calls.length === 0 || round === ROUNDS) return message.content ?? "";
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
    for (let round = 1;; round++) {
      const request = { model: "policy", max_tokens: 24, messages, tools };
      const { content, stop_reason } = await client.messages.create(request, { signal });
      const text = content.map((block) => block.type === "text" ? block.text : "").join("");
      if (stop_reason !== "tool_use" || round === ROUNDS) return text;
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
    const { text } = await generateText({
      model: createOpenAI({ baseURL: baseUrl, apiKey }).chat("policy"),
      prompt: question(dialog),
      tools: { add: tool({ description, inputSchema, execute: add }) },
      stopWhen: isStepCount(ROUNDS),
      abortSignal: signal,
    });
    return text;
  },

  async langchain({ baseUrl, apiKey, dialog, signal }) {
    const model = new ChatOpenAI({
      model: "policy",
      apiKey,
      configuration: { baseURL: baseUrl },
    }).bindTools([{ type: "function", function: { name: "add", description, parameters } }]);
    const messages: BaseMessage[] = [new HumanMessage(question(dialog))];
    for (let round = 1;; round++) {
      const answer = await model.invoke(messages, { signal });
      const calls = answer.tool_calls ?? [];
      if (calls.length === 0 || round === ROUNDS) return answer.text;
      messages.push(answer);
      for (const { id, args } of calls) {
        messages.push(new ToolMessage({ tool_call_id: id!, content: add(args) }));
      }
    }
  },
};

/** The goal: how much of what the model says looks like arithmetic. */
function shareOfArithmetic(text: string): number {
  return text === "" ? 0 : (text.match(/[0-9(){}=<>*]/g)?.length ?? 0) / text.length;
}

const stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort(new Error("interrupted")));
const { signal } = stop;

// 1. A server, a policy, and the gateway before it.
await using servers = await openServers("embedded", { urls: [], signal });
const { engine, model } = servers;
const policy = new SGLangWrapper(engine, {
  generateKwargs: { maxNewTokens: 24, ignoreEos: true },
});
await using gateway = await RecordingGateway.listen(policy);

// 2. What trains: evolution strategies, which need nothing but rewards.
const weights = await Parameters.read(model);
await using sender = new SGLangWeightSyncScheme({ engine, soleTrainer: true }).createSender();
await sender.initAllWorkersGroup(weights.metadata, { signal });

// 3. Each agent is an environment; its rows are what a trainer with gradients would take.
for (const name of positionals.length > 0 ? positionals : Object.keys(agents)) {
  const run = agents[name];
  if (run === undefined) throw new Error(`There is no agent ${name}`);
  const environments = Array.from(
    { length: 8 },
    () => agentEnvironment(gateway, async (task) => shareOfArithmetic(await run(task))),
  );
  await using collector = new LLMCollector(environments, {
    policy,
    dialogTurnsPerBatch: environments.length,
    trackPolicyVersion: true,
    signal,
  });
  sender.registerCollector(collector);
  const options = { pairs: Number(flags.pairs), noise: 2.5, stepSize: 1.5, seed: 0 };
  const strategy = new EvolutionStrategy(weights.vector, options);
  for (let step = 0; step < Number(flags.steps); step++) {
    const rewards: number[] = [];
    let tokens = 0;
    for (const candidate of strategy.ask()) {
      await sender.updateWeights(weights.toStateDict(candidate), { signal });
      const { rows } = (await collector.rollout())!;
      rewards.push(rows.reduce((sum, { reward }) => sum + reward, 0) / environments.length);
      tokens += rows.reduce((sum, { responseIds }) => sum + responseIds.length, 0);
    }
    strategy.tell(rewards);
    const mean = rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length;
    say(`${name}, step ${step}: mean reward ${mean.toFixed(3)}, ${tokens} tokens recorded`);
  }
}

function say(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}
