import assert from "node:assert/strict";
import fc from "fast-check";
import { readAnswer } from "../../../../src/policy/chat.ts";

/** Calls of `add` in spellings that are not read. */
const unread: readonly string[] = [
  '<function name="add"><param name="a">1</param></function>',
  '<|open|>tools<|sep|><|open|>call tool="add" index="1"<|sep|><|close|>call<|sep|>',
  "<ifm|tool_call>add<ifm|arg_key>a</ifm|arg_key></ifm|tool_call>",
  "<iquest_tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></iquest_tool_call>",
  '<|function_call|>{"name": "add", "arguments": {"a": 1}}',
  'add<|content_invoke_tool_json|>{"name": "add", "args": {"a": 1}}<|end_message|>',
  '✿FUNCTION✿: add\n✿ARGS✿: {"a": 1}',
  'Thought: I add.\nAction: add\nAction Input: {"a": 1}',
  "```tool_code\nprint(add(a=1))\n```",
  "```tool_call\n{'function': 'add'}\n```",
  "add(a=1, b=2)",
  "print(add(1, 2))\n",
  "[add(a=1+1)]",
  'I call {"action": "add", "action_input": {"a": 1}} now.',
  "[TOOL_REQUEST]\n{'name': 'add', 'arguments': {}}\n[END_TOOL_REQUEST]",
  '{"tool": "add", "a": 1}',
  '{"name": "functions.add:0"}',
  '<tool name="add">1</tool>',
  "<tool▁call>add</tool▁call>",
  'functionadd\n```json\n{"a": 1}\n```',
];

Deno.test("a call of a given tool that nobody can read is told, and is no answer", () => {
  const tools = [{ type: "function", function: { name: "add", parameters: {} } }];
  for (const formats of [null, ["hermes"], ["llama3", "qwen3_coder"]] as const) {
    for (const text of unread) {
      for (const answer of [text, `<think>\nhm\n</think>\n\n${text}`]) {
        const { calls, faults } = readAnswer(answer, { tools, formats });
        assert.deepEqual([calls, faults.length], [[], 1], answer);
        assert.notEqual(faults[0]!.reason, "");
      }
      // Thoughts, code, and tools that were not given are words.
      const code = `It is\n\`\`\`\n${text.replaceAll("```", "")}\n\`\`\`\nso.`;
      const others = [{ type: "function", function: { name: "sub", parameters: {} } }];
      const quiet = [
        readAnswer(`<think>\n${text}\n</think>\n\nThree.`, { tools, formats }),
        readAnswer(`${text} so`, { tools, formats, isThinking: true }),
        readAnswer(code, { tools, formats }),
        readAnswer(text, { tools: others, formats }),
      ];
      assert.deepEqual(quiet.map(({ faults }) => faults.length), [0, 0, 0, 0], text);
    }
    for (
      const words of ["I add one.", "Use add(a, b) for it.", "It is 3.", '{"sum": 3}', "add", ""]
    ) {
      assert.deepEqual(readAnswer(words, { tools, formats }).faults, [], words);
    }
  }
});

Deno.test("looking for calls that nobody can read ends for long texts, whatever is repeated", () => {
  const tools = [{ type: "function", function: { name: "add", parameters: {} } }];
  const repeated = [
    ...["<tool_call>", "<think>", "{", '{"name": "', "x", "\n", " ", "`", "(", "=", ")", "'"],
    ...[
      '"name": "',
      "function=",
      "Action: ",
      "```",
      "~~~",
      "<tool_call",
      "✿FUNCTION✿",
      "add",
      "add(",
    ],
  ];
  const parts = fc.array(fc.constantFrom(...repeated), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(parts, (some) => {
      // A quadratic way would take minutes for each.
      const text = some.join("").repeat(20_000);
      const { calls } = readAnswer(text, { tools, formats: ["phi4"] });
      assert.deepEqual(calls, []);
    }),
    { numRuns: 12 },
  );
});

Deno.test("an answer that is nothing but code with a call of a given tool is a fault", () => {
  const tools = [{ type: "function", function: { name: "add", parameters: {} } }];
  const call = '{"name": "add", "arguments": {"a": 1}}';
  const own = `<tool_call>${call}</tool_call>`;
  for (const said of [call, own, `[${call}]`, "add(a=1)"]) {
    for (const [open, close] of [["```json\n", "\n```"], ["~~~\n", "\n~~~"], ["`", "`"]]) {
      for (const formats of [null, ["hermes"]] as const) {
        const read = (text: string) => readAnswer(text, { tools, formats });
        const whole = read(`${open}${said}${close}\n`);
        assert.deepEqual([whole.calls.length, whole.faults.length], [0, 1], said);
        const quoted = read(`Write this:\n${open}${said}${close}\nand no more`);
        assert.deepEqual([quoted.calls.length, quoted.faults.length], [0, 0], said);
      }
    }
  }
  assert.deepEqual(readAnswer('```json\n{"sum": 3}\n```', { tools }).faults, []);
});
