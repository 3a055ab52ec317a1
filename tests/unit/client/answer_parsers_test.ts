import assert from "node:assert/strict";
import { SGLangClient } from "../../../src/client/mod.ts";
import { healthyServer, standIn } from "../../_support/http_stand_in.ts";

const add = { name: "add", parameters: { type: "object", properties: {} } };

Deno.test("calls are asked for on SGLang's wire, and tools may be the function alone", async () => {
  await using server = standIn({
    ...healthyServer,
    "POST /parse_function_call": () =>
      Response.json({
        normal_text: "Sure.",
        calls: [
          { tool_index: 0, name: "add", parameters: '{"a": 1}' },
          { tool_index: -1, name: null, parameters: "" },
        ],
      }),
  });
  using client = new SGLangClient({ url: server.url });
  const wrapped = { type: "function", function: { ...add, strict: true } };
  const parsed = await client.parseFunctionCall("text", {
    tools: [add, wrapped],
    toolCallParser: "qwen25",
  });
  assert.deepEqual(parsed, {
    normalText: "Sure.",
    calls: [
      { toolIndex: 0, name: "add", parameters: '{"a": 1}' },
      { toolIndex: -1, name: null, parameters: "" },
    ],
  });
  assert.deepEqual(server.requests[0]!.body, {
    text: "text",
    tools: [{ type: "function", function: add }, wrapped],
    tool_call_parser: "qwen25",
  });
});

Deno.test("thoughts are asked for on SGLang's wire; none is null, whatever the server calls it", async () => {
  const answers: unknown[] = [
    { reasoning_text: "hm", text: "4" },
    { reasoning_text: "", text: "4" },
    { reasoning_text: null, text: "4" },
    { reasoning_text: "cut off", text: null },
  ];
  await using server = standIn({
    "POST /separate_reasoning": () => Response.json(answers.shift()),
  });
  using client = new SGLangClient({ url: server.url });
  const ask = () => client.separateReasoning("<think>", { reasoningParser: "qwen3" });
  assert.deepEqual(await ask(), { reasoningText: "hm", text: "4" });
  assert.deepEqual(await ask(), { reasoningText: null, text: "4" });
  assert.deepEqual(await ask(), { reasoningText: null, text: "4" });
  assert.deepEqual(await ask(), { reasoningText: "cut off", text: "" });
  assert.deepEqual(server.requests[0]!.body, { text: "<think>", reasoning_parser: "qwen3" });
});

Deno.test("an answer of another form is a protocol error that names its place", async () => {
  await using server = standIn({
    "POST /parse_function_call": () =>
      Response.json({ normal_text: "", calls: [{ tool_index: 0, parameters: {} }] }),
    "POST /separate_reasoning": () => Response.json({ reasoning_text: 3, text: "" }),
  });
  using client = new SGLangClient({ url: server.url });
  await assert.rejects(
    client.parseFunctionCall("a", { tools: [add], toolCallParser: "qwen25" }),
    { code: "protocol", message: /POST \/parse_function_call is not as expected at "calls\.0/ },
  );
  await assert.rejects(
    client.separateReasoning("a", { reasoningParser: "qwen3" }),
    { code: "protocol", message: /"reasoning_text"/ },
  );
});

Deno.test("a bare 500 is explained as the name of a parser, a 404 as a server without parsers", async () => {
  const failed = () => new Response("Internal Server Error", { status: 500 });
  await using server = standIn({ "POST /parse_function_call": failed });
  using client = new SGLangClient({ url: server.url });
  await assert.rejects(client.parseFunctionCall("a", { tools: [], toolCallParser: "qwen26" }), {
    code: "http",
    status: 500,
    serverMessage: "Internal Server Error",
    message: /Is "qwen26" a parser of this server's version\? Its names are those of --tool-call-/,
  });
  await assert.rejects(client.separateReasoning("a", { reasoningParser: "qwen3" }), {
    code: "unsupported",
    message: /no \/separate_reasoning/,
  });
  assert.equal(server.requests.length, 2);
});

Deno.test("what cannot be right is refused before anything is sent", async () => {
  await using server = standIn();
  using client = new SGLangClient({ url: server.url });
  const cases: [() => Promise<unknown>, RegExp][] = [
    [() => client.separateReasoning("a", { reasoningParser: "" }), /reasoningParser must name/],
    [() => client.separateReasoning(null as never, { reasoningParser: "q" }), /text must be/],
    [() => client.parseFunctionCall("a", { tools: [add] } as never), /toolCallParser must name/],
    [
      () => client.parseFunctionCall("a", { tools: [add, {}], toolCallParser: "q" }),
      /tools\[1\] must be/,
    ],
    [
      () => client.parseFunctionCall("a", { tools: null as never, toolCallParser: "q" }),
      /tools must be a list/,
    ],
  ];
  for (const [call, message] of cases) {
    await assert.rejects(call(), { code: "validation", message });
  }
  assert.deepEqual(server.calls, []);
});
