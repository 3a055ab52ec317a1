/** Bodies that agents send to the gateway: read, and looked for in what was recorded. */
import { convertSamplingParams } from "../../src/client/sampling_params.ts";
import { chatCompletions } from "../../src/gateway/apis/chat_completions.ts";
import { completions } from "../../src/gateway/apis/completions.ts";
import { messages } from "../../src/gateway/apis/messages.ts";
import { responses } from "../../src/gateway/apis/responses.ts";
import type { Api } from "../../src/gateway/apis/api.ts";
import { Conversations } from "../../src/gateway/conversations.ts";
import { asRefusal, invalid } from "../../src/gateway/fault.ts";

const schema = { type: "object", properties: { a: { type: "number" } } };
const call = { id: "call_1", type: "function", function: { name: "add", arguments: '{"a": 1}' } };
const none = { conversation: () => null, answer: () => null, answerOfCall: () => null };

/** The APIs, each with a body that it takes. */
export const gatewayBodies: Readonly<Record<string, { api: Api; body: unknown }>> = {
  "bodies of chat completions": {
    api: chatCompletions,
    body: {
      model: "m",
      messages: [
        { role: "developer", content: [{ type: "text", text: "Be good" }] },
        { role: "assistant", content: null, tool_calls: [call], reasoning_content: "hm" },
        { role: "tool", tool_call_id: "call_1", content: "2" },
      ],
      tools: [{ type: "function", function: { name: "add", parameters: schema } }],
      tool_choice: { type: "function", function: { name: "add" } },
      response_format: { type: "json_schema", json_schema: { name: "n", schema } },
      logit_bias: { "5": 1 },
      logprobs: true,
      top_logprobs: 2,
      stop: ["a"],
      seed: 1,
      n: 2,
      stream_options: { include_usage: true },
      chat_template_kwargs: { enable_thinking: false },
    },
  },
  "bodies of messages": {
    api: messages,
    body: {
      model: "m",
      max_tokens: 5,
      system: [{ type: "text", text: "Be good" }],
      messages: [
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "hm", signature: "" },
            { type: "tool_use", id: "t", name: "add", input: { a: 1 } },
          ],
        },
        { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: "2" }] },
      ],
      tools: [{ name: "add", input_schema: schema }],
      tool_choice: { type: "tool", name: "add" },
      stop_sequences: ["a"],
    },
  },
  "bodies of responses": {
    api: responses,
    body: {
      model: "m",
      instructions: "Be good",
      input: [
        { role: "user", content: [{ type: "input_text", text: "Hi" }] },
        { type: "reasoning", id: "rs_1", summary: [{ type: "summary_text", text: "hm" }] },
        { type: "function_call", call_id: "c", name: "add", arguments: "{}" },
        { type: "function_call_output", call_id: "c", output: "2" },
      ],
      tools: [{ type: "function", name: "add", parameters: schema }],
      text: { format: { type: "json_schema", name: "n", schema } },
    },
  },
  "bodies of completions": {
    api: completions,
    body: { model: "m", prompt: [[1, 2]], max_tokens: 4, logprobs: 1, stop: "a", n: 2 },
  },
};

/** Reads a body as the gateway does. It may only throw an error of the library. */
export function readGatewayBody(api: Api, given: unknown): void {
  // As it comes over HTTP.
  const value = JSON.parse(JSON.stringify(given) ?? "null");
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid("no object");
  }
  try {
    const { asked } = api.read(value as Record<string, unknown>, new Headers(), none);
    convertSamplingParams(asked.sampling);
    if (asked.input.kind === "chat") new Conversations().find(asked.input.messages);
  } catch (error) {
    JSON.stringify(api.refuse(asRefusal(error)));
    throw error;
  }
}
