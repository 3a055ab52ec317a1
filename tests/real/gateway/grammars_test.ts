/** Fields that want a grammar, before real servers with a grammar backend and without one. */
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { RecordingGateway } from "../../../src/gateway/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { sharedNewest, sharedServers, startRealServer } from "../../_support/real.ts";

const schema = {
  type: "object",
  properties: { verdict: { enum: ["yes", "no"] } },
  required: ["verdict"],
  additionalProperties: false,
};
// A tool's schema may refer to itself.
const parameters = {
  type: "object",
  properties: { side: { $ref: "#/$defs/side" } },
  required: ["side"],
  additionalProperties: false,
  $defs: { side: { enum: ["left", "right"] } },
};
const messages = [{ role: "user" as const, content: "Talk" }];
const tools = ["turn", "look"].map((name) => ({
  type: "function" as const,
  function: { name, parameters },
}));
const named = { type: "function" as const, function: { name: "look" } };
const request = { model: "policy", messages, max_tokens: 400 };

Deno.test("0.5.23 with xgrammar: formats and required tools hold in every API, and are recorded", async () => {
  await using server = await startRealServer({
    version: "0.5.23",
    grammarBackend: "xgrammar",
    args: { constrainedJsonDisableAnyWhitespace: true },
  });
  await using engine = await AsyncSGLang.connect(server.url);
  assert.equal(engine.workers[0]!.grammarBackend, "xgrammar");
  await using gateway = await RecordingGateway.listen(new SGLangWrapper(engine));
  await using session = gateway.open();
  const openai = new OpenAI({ baseURL: session.baseUrl, apiKey: session.key, maxRetries: 0 });
  const anthropic = new Anthropic({ baseURL: gateway.url, apiKey: session.key, maxRetries: 0 });

  const shaped = await openai.chat.completions.create({
    ...request,
    response_format: { type: "json_schema", json_schema: { name: "v", schema, strict: true } },
  });
  const said = shaped.choices[0]!.message.content!;
  assert.match(said, /^\{"verdict": ?"(yes|no)"\}$/);
  assert.equal(shaped.choices[0]!.finish_reason, "stop");

  const object = await openai.chat.completions.create({
    ...request,
    response_format: { type: "json_object" },
  });
  assert.match(object.choices[0]!.message.content!, /^\{/);

  const { choices: [forced] } = await openai.chat.completions.create({
    ...request,
    tools,
    tool_choice: named,
  });
  assert.equal(forced!.finish_reason, "tool_calls", JSON.stringify(forced));
  for (const call of forced!.message.tool_calls!) {
    assert.ok(call.type === "function" && call.function.name === "look");
    assert.match(JSON.parse(call.function.arguments).side, /^(left|right)$/);
  }
  // A format beside tools: each answer is calls or has the format.
  for (let seed = 0; seed < 6; seed++) {
    const { choices: [either] } = await openai.chat.completions.create({
      ...request,
      seed,
      tools,
      response_format: { type: "json_schema", json_schema: { name: "v", schema, strict: true } },
    });
    const { content, tool_calls } = either!.message;
    if (tool_calls === undefined) {
      assert.match(content!, /^\{"verdict": ?"(yes|no)"\}$/);
      assert.equal(either!.finish_reason, "stop");
      continue;
    }
    assert.equal(either!.finish_reason, "tool_calls");
    for (const call of tool_calls) {
      assert.ok(call.type === "function" && ["look", "turn"].includes(call.function.name));
      assert.match(JSON.parse(call.function.arguments).side, /^(left|right)$/);
    }
  }

  // The loop goes on from the ids of the calls.
  await openai.chat.completions.create({
    ...request,
    max_tokens: 4,
    messages: [
      ...messages,
      forced!.message,
      ...forced!.message.tool_calls!.map(({ id }) => ({
        role: "tool" as const,
        tool_call_id: id,
        content: "ok",
      })),
    ],
    tools,
  });

  const stream = openai.chat.completions.stream({ ...request, tools, tool_choice: "required" });
  const streamed = (await stream.finalChatCompletion()).choices[0]!;
  assert.ok(streamed.message.tool_calls!.length > 0);

  const answer = await openai.responses.create({
    model: "policy",
    input: "Talk",
    max_output_tokens: 400,
    text: { format: { type: "json_schema", name: "v", schema, strict: true } },
  });
  assert.match(answer.output_text, /^\{"verdict": ?"(yes|no)"\}$/);

  const claude = await anthropic.messages.create({
    ...request,
    tools: [{ name: "turn", input_schema: { ...parameters, type: "object" } }],
    tool_choice: { type: "any" },
  });
  assert.equal(claude.stop_reason, "tool_use");
  const formatted = await anthropic.messages.create({
    ...request,
    output_config: { format: { type: "json_schema", schema } },
  });
  const [block] = formatted.content;
  assert.ok(block?.type === "text" && /^\{"verdict": ?"(yes|no)"\}$/.test(block.text));

  const digits = await openai.completions.create({
    model: "policy",
    prompt: "a",
    max_tokens: 20,
    ...{ regex: "[0-9]{4}" },
  });
  assert.match(digits.choices[0]!.text, /^[0-9]{4}$/);

  const { rows } = await session.end();
  assert.equal(rows.length, 15);
  assert.deepEqual([rows[2]!.parent, rows[9]!.parent], [null, 2]);
  for (const { responseIds, logProbs } of rows) {
    assert.equal(logProbs!.length, responseIds.length);
  }
});

// `apply_vocab_mask` of 0.5.16 raises on a CPU, and the server ends.
Deno.test("0.5.16 with xgrammar on a CPU: a grammar is refused before it ends the server", async () => {
  await using server = await startRealServer({ version: "0.5.16", grammarBackend: "xgrammar" });
  await using engine = await AsyncSGLang.connect(server.url);
  for (
    const grammar of [
      { jsonSchema: schema },
      { regex: "[0-9]{4}" },
      { ebnf: 'root ::= "a"' },
      { structuredOutputs: { regex: "[0-9]{4}" } },
    ]
  ) {
    await assert.rejects(
      engine.generate({ inputIds: [1, 2, 3] }, { maxNewTokens: 4, ...grammar } as never),
      { code: "unsupported", message: /needs a GPU or 0\.5\.23/ },
    );
  }
  await using gateway = await RecordingGateway.listen(new SGLangWrapper(engine));
  await using session = gateway.open();
  const openai = new OpenAI({ baseURL: session.baseUrl, apiKey: session.key, maxRetries: 0 });
  await assert.rejects(
    openai.chat.completions.create({ ...request, response_format: { type: "json_object" } }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "response_format",
  );
  const { ids } = await engine.generate({ inputIds: [1, 2, 3] }, { maxNewTokens: 4 });
  assert.equal(ids.length, 4);
});

for (const version of ["0.5.16", "0.5.23"] as const) {
  Deno.test(`${version} without grammars: the field is named before anything is sent`, async () => {
    const url = version === "0.5.16" ? sharedServers()[0]! : sharedNewest();
    await using engine = await AsyncSGLang.connect(url);
    await using gateway = await RecordingGateway.listen(new SGLangWrapper(engine));
    await using session = gateway.open();
    const openai = new OpenAI({ baseURL: session.baseUrl, apiKey: session.key, maxRetries: 0 });
    await assert.rejects(
      openai.chat.completions.create({ ...request, tools, tool_choice: "required" }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "tool_choice",
    );
    await assert.rejects(
      openai.chat.completions.create({ ...request, response_format: { type: "json_object" } }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "response_format",
    );
    assert.equal(session.turns.length, 0);
  });
}
