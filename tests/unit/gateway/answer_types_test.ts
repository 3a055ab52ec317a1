/**
 * The clients' own types against what the gateway answers: every kind of answer is written down as
 * TypeScript, each where its client has a type for it, and compiled.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { plainSampling, scriptedReader } from "../../_support/gateway_agents.ts";
import { setup } from "./_support.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const tools = [{ type: "function", function: { name: "add", parameters: { type: "object" } } }];
const messages = [{ role: "user", content: "Talk" }];
const input = { model: "any", input: "Talk" };
const claude = { model: "any", max_tokens: 8, messages };
const responseTools = [{ type: "function", name: "add", parameters: { type: "object" } }];
const claudeTools = [{ name: "add", input_schema: { type: "object" } }];

/** Requests, and the types of their answers or of the events of their streams. */
const requests: readonly (readonly [type: string, path: string, body: object | null])[] = [
  ["OpenAI.Chat.ChatCompletion", "/v1/chat/completions", { model: "any", messages, tools }],
  ["OpenAI.Chat.ChatCompletion", "/v1/chat/completions", { model: "any", messages, n: 2 }],
  [
    "OpenAI.Chat.ChatCompletion",
    "/v1/chat/completions",
    { model: "any", messages, logprobs: true, top_logprobs: 2 },
  ],
  ["OpenAI.Chat.ChatCompletionChunk", "/v1/chat/completions", {
    model: "any",
    messages,
    tools,
    stream: true,
    stream_options: { include_usage: true },
  }],
  [
    "OpenAI.Chat.ChatCompletionChunk",
    "/v1/chat/completions",
    { model: "any", messages, stream: true, logprobs: true },
  ],
  ["OpenAI.Completion", "/v1/completions", { model: "any", prompt: "a", logprobs: 1 }],
  ["CompletionPart", "/v1/completions", { model: "any", prompt: "a", stream: true }],
  ["OpenAI.Responses.Response", "/v1/responses", { ...input, tools: responseTools }],
  ["OpenAI.Responses.Response", "/v1/responses", input],
  ["OpenAI.Responses.ResponseStreamEvent", "/v1/responses", {
    ...input,
    tools: responseTools,
    stream: true,
  }],
  ["OpenAI.Responses.ResponseStreamEvent", "/v1/responses", { ...input, stream: true }],
  ["Anthropic.Message", "/v1/messages", { ...claude, tools: claudeTools }],
  ["Anthropic.Message", "/v1/messages", claude],
  ["Anthropic.RawMessageStreamEvent", "/v1/messages", {
    ...claude,
    tools: claudeTools,
    stream: true,
  }],
  ["Anthropic.RawMessageStreamEvent", "/v1/messages", { ...claude, stream: true }],
  ["Anthropic.MessageTokensCount", "/v1/messages/count_tokens", { model: "any", messages }],
  ["OpenAI.Model", "/v1/models/any", null],
];

Deno.test("the clients' own types accept every answer", async () => {
  const lines = [
    'import type OpenAI from "openai";',
    'import type Anthropic from "@anthropic-ai/sdk";',
    // OpenAI's service has null before the last part, too, of which its type knows nothing.
    'type Finish = OpenAI.CompletionChoice["finish_reason"] | null;',
    'type Choice = Omit<OpenAI.CompletionChoice, "finish_reason"> & { finish_reason: Finish };',
    'type CompletionPart = Omit<OpenAI.Completion, "choices"> & { choices: Choice[] };',
    "const accept = <T>() => <V extends T>(_: V): void => {};",
  ];
  for (const [type, path, body] of requests) {
    // A reader of its own for each, so that those with tools are answered with calls.
    const hasTools = body !== null && "tools" in body;
    await using it = await setup({
      policy: {
        generateKwargs: plainSampling,
        ...(hasTools ? { readAnswer: scriptedReader() } : {}),
      },
    });
    await using session = it.gateway.open();
    const response = await fetch(`${it.gateway.url}${path}`, {
      method: body === null ? "GET" : "POST",
      headers: { authorization: `Bearer ${session.key}` },
      ...(body === null ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    assert.equal(response.status, 200, text);
    const answers = body !== null && "stream" in body
      ? text.split("\n").filter((line) => line.startsWith("data: {")).map((line) => line.slice(6))
      : [text];
    assert.ok(answers.length > 0);
    if (hasTools) assert.match(text, /add/);
    for (const answer of answers) lines.push(`accept<${type}>()(${answer});`);
  }
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/answers.ts`, lines.join("\n"));
    const { stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["check", "--quiet", "--config", `${root}deno.json`, `${folder}/answers.ts`],
      env: { NO_COLOR: "1" },
      stderr: "piped",
    }).output();
    const faults = new TextDecoder().decode(stderr).split(/^(?=TS\d+ )/m)
      // A field that a client does not know is no fault; one that lacks or is of another type is.
      .filter((fault) => /^TS\d+ /.test(fault) && !fault.startsWith("TS2353 "));
    assert.deepEqual(faults, []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
