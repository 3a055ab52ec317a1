import assert from "node:assert/strict";
import { LLMCollector, type PolicyRequest } from "../../../src/collector/mod.ts";
import { promptEnvironment, toolEnvironment } from "../../../src/collector/environments/mod.ts";
import type { Message } from "../../../src/policy/message.ts";
import { sampleOf } from "./_fakes.ts";

/** A policy that says the given messages, one a turn, and notes what it was asked. */
function scripted(script: Message[]) {
  const asked: PolicyRequest[] = [];
  return {
    asked,
    call: (request: PolicyRequest) => {
      asked.push(request);
      return Promise.resolve(sampleOf([1], { message: script[request.turn]! }));
    },
  };
}

Deno.test("a prompt environment goes through its prompts by the dialog's number", async () => {
  const policy = scripted([{ role: "assistant", content: "four" }]);
  await using collector = new LLMCollector(
    promptEnvironment({
      prompts: ["short", "a longer one"],
      reward: ({ message }, prompt) => prompt.length - String(message.content).length,
      system: "Be brief",
    }),
    { policy, dialogTurnsPerBatch: 3 },
  );
  const batch = await collector.rollout();
  assert.deepEqual(batch?.rows.map((row) => [row.reward, row.info.prompt]), [
    [1, 0],
    [8, 1],
    [1, 0],
  ]);
  assert.deepEqual(batch?.rows[1]?.messages, [
    { role: "system", content: "Be brief" },
    { role: "user", content: "a longer one" },
  ]);
});

Deno.test("a tool environment runs the tools that are called and ends with the answer", async () => {
  const call = (name: string, args: unknown): Message => ({
    role: "assistant",
    content: "",
    toolCalls: [{ name, arguments: args }],
  });
  const policy = scripted([
    call("multiply", { a: 6, b: 7 }),
    call("multiplied", {}),
    call("multiply", null),
    { role: "assistant", content: "42" },
  ]);
  await using collector = new LLMCollector(
    toolEnvironment({
      prompts: ["6 * 7?"],
      tools: {
        multiply: {
          description: "Multiplies",
          parameters: { type: "object" },
          call: (args) => {
            if (args === null) throw new Error("no numbers");
            const { a, b } = args as { a: number; b: number };
            return a * b;
          },
        },
      },
      reward: ({ message }) => message.content === "42" ? 1 : 0,
      toolTurnReward: -0.1,
    }),
    { policy, dialogTurnsPerBatch: 1, yieldCompletedTrajectories: true },
  );
  const batch = await collector.rollout();
  assert.deepEqual(batch?.rows.map((row) => row.reward), [-0.1, -0.1, -0.1, 1]);
  const answers = batch?.rows.at(-1)?.messages.filter((message) => message.role === "tool");
  assert.deepEqual(answers?.map((message) => message.content), [
    "42",
    "Error: no tool multiplied; try multiply",
    "Error: no numbers",
  ]);
  assert.deepEqual(policy.asked[0]?.tools, [{
    type: "function",
    function: {
      name: "multiply",
      description: "Multiplies",
      parameters: { type: "object" },
    },
  }]);
});

Deno.test("an attempt at a call is told to the model and is no answer", async () => {
  const broken = {
    role: "assistant",
    content: "<tool_call>{</tool_call>",
    toolCallFaults: [{ text: "{", reason: "the call is not JSON" }],
  };
  const policy = scripted([broken, { role: "assistant", content: "42" }]);
  await using collector = new LLMCollector(
    toolEnvironment({
      prompts: ["6 * 7?"],
      tools: { multiply: { description: "Multiplies", parameters: {}, call: () => 42 } },
      reward: () => 1,
    }),
    { policy, dialogTurnsPerBatch: 1, yieldCompletedTrajectories: true },
  );
  const batch = await collector.rollout();
  assert.deepEqual(batch?.rows.map((row) => row.reward), [0, 1]);
  assert.deepEqual(
    batch?.rows.at(-1)?.messages.filter(({ role }) => role === "tool").map(({ content }) =>
      content
    ),
    ["Error: no tool was called: the call is not JSON"],
  );
});

Deno.test("environments without anything to do are refused", () => {
  const reward = () => 0;
  assert.throws(() => promptEnvironment({ prompts: [], reward }), /at least one prompt/);
  assert.throws(() => toolEnvironment({ prompts: ["a"], tools: {}, reward }), /at least one tool/);
});
