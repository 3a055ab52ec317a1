/** The servers' own parsers of answers, and the reader that asks them. */
import assert from "node:assert/strict";
import { SGLangClient } from "../../../src/client/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { readAnswer, serverAnswerReader } from "../../../src/policy/chat.ts";
import { sharedNewest, sharedServers } from "../../_support/real.ts";

const targets: readonly (readonly [string, () => string])[] = [
  ["0.5.16", () => sharedServers()[0]!],
  ["0.5.23", sharedNewest],
];

const tools = [{
  type: "function",
  function: {
    name: "add",
    description: "Adds.",
    parameters: { type: "object", properties: { a: { type: "integer" } } },
  },
}];
const call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>';

for (const [version, url] of targets) {
  Deno.test(`the server finds calls and thoughts, and a name that it does not know is explained (${version})`, async () => {
    using client = new SGLangClient({ url: url() });
    const qwen = { tools, toolCallParser: "qwen25" };
    assert.deepEqual(await client.parseFunctionCall(`Sure.\n${call}`, qwen), {
      normalText: "Sure.",
      calls: [{ toolIndex: 0, name: "add", parameters: '{"a": 1}' }],
    });
    assert.deepEqual(
      await client.separateReasoning("<think>hm</think>4", { reasoningParser: "qwen3" }),
      { reasoningText: "hm", text: "4" },
    );
    assert.deepEqual(
      await client.separateReasoning("<think>cut", { reasoningParser: "qwen3" }),
      { reasoningText: "cut", text: "" },
    );
    assert.deepEqual(
      await client.separateReasoning("4", { reasoningParser: "qwen3" }),
      { reasoningText: null, text: "4" },
    );
    await assert.rejects(client.parseFunctionCall("a", { tools, toolCallParser: "qwen26" }), {
      code: "http",
      status: 500,
      message: /Is "qwen26" a parser/,
    });
    await assert.rejects(client.separateReasoning("a", { reasoningParser: "qwen26" }), {
      code: "http",
      status: 500,
      message: /Is "qwen26" a parser/,
    });
  });

  Deno.test(`an answer is read by the server as it is read here (${version})`, async () => {
    await using engine = await AsyncSGLang.connect(url());
    const read = serverAnswerReader({
      server: engine,
      toolCallParser: "qwen25",
      reasoningParser: "qwen3",
    });
    const texts = [
      `<think>hm ${call}</think>Sure.\n${call}\n${call}`,
      `<think>hm</think>${call}`,
      "<think>hm</think>It is 4.",
      "It is 4.",
    ];
    for (const text of texts) {
      assert.deepEqual(await read(text, { tools }), readAnswer(text, { tools }), text);
    }
    const opened = { tools, isThinking: true };
    for (const text of [`hm ${call}</think>${call}`, "hm</think>4", "cut"]) {
      assert.deepEqual(await read(text, opened), readAnswer(text, opened), text);
    }
    for (
      const answer of [await read(`<think>a ${call}`, { tools }), await read(`a ${call}`, opened)]
    ) {
      assert.deepEqual({ ...answer, faults: [] }, readAnswer(`<think>a ${call}`, { tools }));
      assert.match(answer.faults[0]!.reason, /thoughts that have no end/);
    }
    const unknown = await read(call.replace("add", "sub"), { tools });
    assert.deepEqual(unknown.calls, []);
    assert.match(unknown.faults[0]!.reason, /did not take it for a call/);
    const broken = await read('<tool_call>\n{"name": "add", "argu\n</tool_call>', { tools });
    assert.deepEqual(broken.calls, []);
    assert.equal(broken.faults.length, 1);
  });
}
