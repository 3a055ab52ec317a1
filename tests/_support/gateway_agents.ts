/**
 * The same agent, written with each official client: it adds numbers by calls of a tool, two of them
 * side by side, and comes to its end. What the model says is taken for what {@linkcode script} has.
 */
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import {
  type AIMessageChunk,
  type BaseMessage,
  HumanMessage,
  ToolMessage,
} from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, isStepCount, jsonSchema, type LanguageModel, streamText, tool } from "ai";
import OpenAI from "openai";
import { languageModel } from "../../src/ai/mod.ts";
import type { EndedSession, GatewaySession, RecordingGateway } from "../../src/gateway/mod.ts";
import { RecordedChatModel } from "../../src/langchain/mod.ts";
import type { AnswerReader } from "../../src/policy/chat.ts";

/** What a model's answers are taken for: two calls side by side, one call, an answer. */
const script = [
  [{ name: "add", arguments: { a: 1, b: 2 } }, { name: "add", arguments: { a: 3, b: 4 } }],
  [{ name: "add", arguments: { a: 3, b: 7 } }],
];

/**
 * Reads answers as calls of tools, as the script has it. A tiny model writes nonsense: its ids and
 * log-probabilities are real, what they are taken for is told here.
 */
export function scriptedReader(): AnswerReader {
  const known = new Map<string, (typeof script)[number]>();
  const rest = [...script];
  return (text) => {
    // An answer is read as the server shows it, and with its special tokens: that is one answer.
    const key = text.replaceAll(/<\|[^|]*\|>|\ufffd/g, "").trim();
    if (!known.has(key)) known.set(key, rest.shift() ?? []);
    const calls = known.get(key)!;
    return { reasoning: null, content: calls.length === 0 ? text : "", calls, faults: [] };
  };
}

/**
 * How the agents' answers are sampled: without the special tokens of the tiny model. One in the middle
 * of an answer is not shown, so that what is sent back is another text, and rightly a branch.
 */
export const plainSampling = {
  maxNewTokens: 8,
  logitBias: { 1021: -100, 1022: -100, 1023: -100 },
} as const;

const parameters = {
  type: "object" as const,
  properties: { a: { type: "number" }, b: { type: "number" } },
  required: ["a", "b"],
};

/** The same agents without a connection, by framework. */
export const agentsInProcess: Readonly<
  Record<string, (gateway: RecordingGateway) => Agent>
> = {
  ai: (gateway) => (session, isStream) => runAi(languageModel({ gateway, session }), isStream),
  "ai, the specification before": (gateway) => (session, isStream) =>
    runAi(languageModel({ gateway, session }, { specification: "v3" }), isStream),
  langchain: (gateway) => (session, isStream) =>
    runLangchain(new RecordedChatModel({ gateway, session }), isStream),
};

/** Runs the agent in a session; gives how often it called the tool. */
export type Agent = (session: GatewaySession, isStream: boolean) => Promise<number>;

/** The agents by client. */
export const agents: Readonly<Record<string, Agent>> = {
  openai,
  anthropic,
  "ai, chat": (session, isStream) => ai(session, isStream, "chat"),
  "ai, responses": (session, isStream) => ai(session, isStream, "responses"),
  langchain,
};

const description = "Adds two numbers";

async function openai({ baseUrl, key }: GatewaySession, isStream: boolean): Promise<number> {
  const client = new OpenAI({ baseURL: baseUrl, apiKey: key });
  const tools: OpenAI.Chat.ChatCompletionTool[] = [
    { type: "function", function: { name: "add", description, parameters } },
  ];
  const messages: OpenAI.Chat.ChatCompletionMessageParam[] = [
    { role: "system", content: "You add." },
    { role: "user", content: "Add 1 to 4" },
  ];
  for (let called = 0;;) {
    const request = { model: "policy", messages, tools };
    const completion = isStream
      ? await client.chat.completions.stream(request).finalChatCompletion()
      : await client.chat.completions.create(request);
    const { message } = completion.choices[0]!;
    messages.push(message);
    const calls = message.tool_calls ?? [];
    if (calls.length === 0) return called;
    for (const call of calls) {
      assert.equal(call.type, "function");
      const { a, b } = JSON.parse(call.type === "function" ? call.function.arguments : "");
      messages.push({ role: "tool", tool_call_id: call.id, content: String(a + b) });
      called++;
    }
  }
}

async function anthropic({ baseUrl, key }: GatewaySession, isStream: boolean): Promise<number> {
  const client = new Anthropic({ baseURL: baseUrl.replace(/\/v1$/, ""), apiKey: key });
  const tools: Anthropic.Tool[] = [{ name: "add", description, input_schema: parameters }];
  const messages: Anthropic.MessageParam[] = [{ role: "user", content: "Add 1 to 4" }];
  for (let called = 0;;) {
    const request = { model: "policy", max_tokens: 8, system: "You add.", messages, tools };
    const answer = isStream
      ? await client.messages.stream(request).finalMessage()
      : await client.messages.create(request);
    messages.push({ role: "assistant", content: answer.content });
    if (answer.stop_reason !== "tool_use") return called;
    const content = answer.content.flatMap((block): Anthropic.ToolResultBlockParam[] => {
      if (block.type !== "tool_use") return [];
      const { a, b } = block.input as { a: number; b: number };
      called++;
      return [{ type: "tool_result", tool_use_id: block.id, content: String(a + b) }];
    });
    messages.push({ role: "user", content });
  }
}

function ai(
  { baseUrl, key }: GatewaySession,
  isStream: boolean,
  api: "chat" | "responses",
): Promise<number> {
  const provider = createOpenAI({ baseURL: baseUrl, apiKey: key });
  return runAi(api === "chat" ? provider.chat("policy") : provider.responses("policy"), isStream);
}

async function runAi(model: LanguageModel, isStream: boolean): Promise<number> {
  let called = 0;
  const add = tool({
    description,
    inputSchema: jsonSchema<{ a: number; b: number }>(parameters),
    execute: ({ a, b }) => {
      called++;
      return String(a + b);
    },
  });
  const request = { model, prompt: "Add 1 to 4", tools: { add }, stopWhen: isStepCount(8) };
  if (isStream) {
    const { textStream, steps } = streamText(request);
    for await (const _ of textStream);
    assert.equal((await steps).length, 3);
  } else assert.equal((await generateText(request)).steps.length, 3);
  return called;
}

function langchain({ baseUrl, key }: GatewaySession, isStream: boolean): Promise<number> {
  const configuration = { baseURL: baseUrl };
  return runLangchain(new ChatOpenAI({ model: "policy", apiKey: key, configuration }), isStream);
}

async function runLangchain(
  chat: ChatOpenAI | RecordedChatModel,
  isStream: boolean,
): Promise<number> {
  const model = chat.bindTools([
    { type: "function", function: { name: "add", description, parameters } },
  ]);
  const messages: BaseMessage[] = [new HumanMessage("Add 1 to 4")];
  for (let called = 0;;) {
    const answer = isStream
      ? await collected(await model.stream(messages))
      : await model.invoke(messages);
    messages.push(answer);
    const calls = answer.tool_calls ?? [];
    if (calls.length === 0) return called;
    for (const { id, args } of calls) {
      called++;
      messages.push(new ToolMessage({ tool_call_id: id!, content: String(args.a + args.b) }));
    }
  }
}

async function collected(stream: AsyncIterable<AIMessageChunk>): Promise<AIMessageChunk> {
  let whole: AIMessageChunk | undefined;
  for await (const chunk of stream) whole = whole === undefined ? chunk : whole.concat(chunk);
  return whole!;
}

/** The loop was three turns, and each went on from the ids of the one before. */
export function checkLoop({ rows }: EndedSession): void {
  assert.deepEqual(rows.map(({ parent, branch }) => [parent, branch]), [[null, 0], [0, 0], [1, 0]]);
  for (const index of [1, 2]) {
    const { promptIds, responseIds, logProbs } = rows[index - 1]!;
    const before = [...promptIds!, ...responseIds];
    assert.deepEqual([...rows[index]!.promptIds!.subarray(0, before.length)], before);
    assert.equal(logProbs!.length, responseIds.length);
  }
}
