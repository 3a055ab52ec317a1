/** Calls without marks are only those of given tools; how deep a call goes is limited. */
import assert from "node:assert/strict";
import { readAnswer } from "../../../../src/policy/chat.ts";

const tools = [{ type: "function", function: { name: "add", parameters: {} } }] as const;
const bare = (name: string) => `{"name": "${name}", "parameters": {"a": 1}}`;

Deno.test("JSON without marks is a call where it names a given tool, else an answer", () => {
  assert.deepEqual(readAnswer(bare("add"), { tools }).calls.map(({ name }) => name), ["add"]);
  const { calls, content } = readAnswer(bare("subtract"), { tools });
  assert.deepEqual([calls, content], [[], bare("subtract")]);
});

Deno.test("JSON without marks is a call of any name where its family is known, or no tools are", () => {
  for (const options of [{ tools, formats: ["llama3"] as const }, { tools: [] }, {}]) {
    assert.deepEqual(readAnswer(bare("subtract"), options).calls.map(({ name }) => name), [
      "subtract",
    ]);
  }
});

for (const [what, open, close] of [["lists", "[", "]"], ["records", "{k:", "}"]] as const) {
  Deno.test(`a call of Gemma 4 whose ${what} go too deep is a fault, not a crash`, () => {
    const read = (depth: number) => {
      const value = open.repeat(depth) + "1" + close.repeat(depth);
      return readAnswer(`<|tool_call>call:add{a:${value}}<tool_call|>`, {
        tools,
        formats: ["gemma4"],
      });
    };
    assert.equal(read(10).calls.length, 1);
    for (const depth of [100, 100_000]) {
      const { calls, faults } = read(depth);
      assert.equal(calls.length, 0);
      assert.equal(faults.length, 1);
    }
  });
}
