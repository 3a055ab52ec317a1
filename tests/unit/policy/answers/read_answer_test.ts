import assert from "node:assert/strict";
import fc from "fast-check";
import { ValidationError } from "../../../../src/errors.ts";
import { readAnswer, type ToolCallFormat, toolCallFormats } from "../../../../src/policy/chat.ts";
import { renderChat } from "../../../../src/policy/templates/render.ts";
import { add, json, marked, spellings } from "./_spellings.ts";

for (const [family, text] of Object.entries(spellings)) {
  Deno.test(`a call is read in the spelling of ${family}`, () => {
    const { calls, faults } = readAnswer(text);
    assert.deepEqual([calls, faults], [[add], []]);
  });

  if (["Llama 3.1", "Llama 3.1 with its end", "Llama 4", "gpt-oss"].includes(family)) continue;
  Deno.test(`a call inside thoughts is not run: ${family}`, () => {
    const answer = readAnswer(`<think>I could ${text}</think>The answer is 3`);
    assert.deepEqual([answer.calls, answer.faults, answer.content], [[], [], "The answer is 3"]);
    assert.deepEqual(readAnswer(`I could ${text}`, { isThinking: true }).calls, []);
    assert.deepEqual(readAnswer(`I could ${text}</think>3`).calls, []);
    assert.deepEqual(readAnswer(`<think>${text}`).calls, []);
    assert.deepEqual(readAnswer(`<think>hm</think>${text}`).calls, [add]);
  });
}

Deno.test("a call of Kimi keeps its id", () => {
  const text = "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0" +
    '<|tool_call_argument_begin|>{"a":1,"b":2}<|tool_call_end|><|tool_calls_section_end|>';
  assert.deepEqual(readAnswer(text), {
    reasoning: null,
    content: "",
    calls: [{ ...add, id: "functions.add:0" }],
    faults: [],
  });
});

Deno.test("several calls are read in order, and what is said stays", () => {
  const more = json.replace("add", "sub");
  const { calls, content } = readAnswer(
    `First.<tool_call>${json}</tool_call>Then.<tool_call>${more}</tool_call>`,
  );
  assert.deepEqual(calls.map(({ name }) => name), ["add", "sub"]);
  assert.equal(content, "First.Then.");
  assert.deepEqual(
    readAnswer(`${json}; ${more}`).calls.map(({ name }) => name),
    ["add", "sub"],
  );
});

for (
  const text of [
    '<tool_call>{"name": "add", "arguments": {"a": 1,}}</tool_call>',
    '<tool_call>{"arguments": {}}</tool_call>',
    "<tool_call>[1]</tool_call>",
    '<tool_call>{"name": "add", "argum',
    '[TOOL_CALLS][{"name": ',
    "<function=add><parameter=a>1",
    "<｜tool▁call▁begin｜>function",
    "<|tool_call_begin|>functions.add:0",
    '<|python_tag|>{"name": "add"',
    '{"name": "add", "parameters": {"a": 1,}}',
    "<|channel|>commentary to=functions.add<|message|>{broken<|call|>",
    '<|channel|>commentary<|message|>{"a": 1}<|call|>',
    "<|channel|>analysis<|message|>hm <|channel|>commentary to=functions.add<|message|>{}<|call|>",
    "<|tool_call_start|>[add(a=1, b=",
    "<|tool_call_start|>[add(1, 2)]<|tool_call_end|>",
    '<|tool_call>call:add{a:<|"|>1}<tool_call|>',
    "<|tool_call>add(a=1)<tool_call|>",
    "<TOOLCALL>add</TOOLCALL>",
    '<|START_ACTION|>[{"tool_name": "add", "param',
    '<minimax:tool_call><invoke name="add"><parameter name="a">1',
    "<minimax:tool_call>add</minimax:tool_call>",
    '<|tool_call|>[{"name": "add",]',
  ]
) {
  Deno.test(`what looks like a call and is none is a fault: ${text}`, () => {
    const { calls, faults } = readAnswer(text);
    assert.deepEqual(calls, []);
    assert.equal(faults.length, 1);
    assert.notEqual(faults[0]!.reason, "");
  });
}

Deno.test("a fault has the call's text from its first character, cut at 500", () => {
  const { faults: [fault] } = readAnswer(
    `<tool_call>{"arguments": ${"1".repeat(900)}}</tool_call>`,
  );
  assert.equal(fault!.text, `{"arguments": ${"1".repeat(486)}`);
});

Deno.test("one good and one broken call are both told", () => {
  const { calls, faults } = readAnswer(
    `<tool_call>${json}</tool_call><tool_call>{"name": </tool_call>`,
  );
  assert.deepEqual([calls.length, faults.length], [1, 1]);
});

Deno.test("JSON, code and words that are no call are an answer", () => {
  for (
    const text of ['{"result": 3}', "42", "function add(a) {}", '{"name": "Ann", "age": 3}', ""]
  ) {
    const { calls, faults, content } = readAnswer(text);
    assert.deepEqual([calls, faults, content], [[], [], text]);
  }
});

Deno.test("parameters that are texts stay texts", () => {
  const tools = [{
    type: "function",
    function: { name: "add", parameters: { properties: { a: { type: "string" } } } },
  }];
  const text = "<function=add><parameter=a>1</parameter><parameter=b>2</parameter></function>";
  assert.deepEqual(readAnswer(text, { tools }).calls[0]!.arguments, { a: "1", b: 2 });
});

const pieces = [
  ...["<tool_call>", "</tool_call>", "<think>", "</think>", "{", "}", '{"name": "', "[TOOL_CALLS]"],
  ...[
    "<function=a>",
    "<parameter=b>",
    "</parameter>",
    "<arg_key>",
    "<｜tool▁call▁begin｜>",
    "[ARGS]",
  ],
  ...[
    "<|tool_call_begin|>",
    "<|python_tag|>",
    "<｜tool▁sep｜>",
    "<|channel|>",
    "<|message|>",
    ";\n{",
  ],
  ...["[THINK]", "x", "\n", " ", "`", "\n```\n", '"', "'", "a="],
  ...["<|tool_call_start|>", "[f(a=", "(", "<|tool_call>", "call:f{a:", '<|"|>', "<|tool_call|>"],
  ...['<minimax:tool_call><invoke name="f">', '<parameter name="a">', "<TOOLCALL>", "[["],
  ...["<function_calls>", "f(a=1)", "<tool_calls>", "functools[", "<|action_start|><|plugin|>{"],
  ...[
    "Action: ```json",
    "<seed:tool_call>",
    "<start_function_call>",
    "<escape>",
    "<|tools_prefix|>",
  ],
];

Deno.test("reading looks at each character a fixed number of times, whatever is repeated", () => {
  const looked = (text: string) => {
    let count = 0;
    readAnswer(text, { onLooked: (characters) => count = characters });
    return count;
  };
  const repeated = fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(repeated, fc.integer({ min: 1, max: 400 }), (parts, times) => {
      const text = parts.join("").repeat(times);
      assert.ok(looked(text) <= 8 * (text.length + 100), `${looked(text)} of ${text.length}`);
    }),
    { numRuns: 500 },
  );
});

Deno.test("a long run of one sign is read once, wherever it stands", () => {
  // A pattern that begins again within such a run takes minutes for it: these are its places.
  const run = fc.constantFrom(
    " ",
    "\n",
    "~",
    "`",
    "-",
    "0",
    "9",
    "a",
    "(",
    ")",
    "[",
    '"',
    "\\",
    "<",
  );
  const mark = fc.constantFrom("", "x", "f()", ")", "<|channel|><|message|>", ...pieces);
  const tools = [{ type: "function", function: { name: "f" } }];
  fc.assert(
    fc.property(mark, run, mark, (before, sign, behind) => {
      const text = before + sign.repeat(20_000) + behind;
      let looked = 0;
      readAnswer(text, { tools, onLooked: (characters) => looked = characters });
      assert.ok(looked <= 8 * text.length, `${looked} of ${text.length}`);
    }),
    { numRuns: 100 },
  );
});

Deno.test("no text makes the reader fail", () => {
  const random = fc.array(fc.oneof(fc.constantFrom(...pieces), fc.string()), { maxLength: 12 });
  fc.assert(
    fc.property(random, fc.boolean(), (parts, isThinking) => {
      const { calls } = readAnswer(parts.join(""), { isThinking });
      for (const { name } of calls) assert.equal(typeof name, "string");
    }),
    { numRuns: 1000 },
  );
});

Deno.test("a spelling is a call for models that write it, and words for those that do not", () => {
  const others = fc.subarray(toolCallFormats as ToolCallFormat[]);
  fc.assert(
    fc.property(fc.constantFrom(...marked), others, ([format, text], formats) => {
      const { calls, faults } = readAnswer(text, { formats });
      // The frame of Hermes is around Qwen3-Coder's calls too.
      const isInFrame = text.includes("<function=") && formats.includes("qwen3_coder");
      const isOf = formats.includes(format) || isInFrame;
      assert.deepEqual([calls, faults], [isOf ? [add] : [], []]);
    }),
    { numRuns: 400 },
  );
});

Deno.test("numbers of calls keep all their digits, and are written again as they were", () => {
  const digits = fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }).map(String);
  const whole = fc.integer({ min: -1e6, max: 1e6 }).map((value) => `${value}.0`);
  const other = fc.constantFrom("0.5", "-1", "7", "1e5", "true", '"1.0"', "null");
  fc.assert(
    fc.property(fc.oneof(digits, whole, other), (number) => {
      const args = `{"a": ${number}, "b": [${number}, {"c": ${number}}]}`;
      const [call] = readAnswer(
        `<tool_call>{"name": "f", "arguments": ${args}}</tool_call>`,
      ).calls;
      const given = call!.arguments as { a: unknown };
      const isBig = /^-?\d+$/.test(number) && !Number.isSafeInteger(Number(number));
      assert.deepEqual(given.a, isBig ? number : JSON.parse(number));
      JSON.stringify(call);
      const written = renderChat(
        [{ role: "assistant", content: null, tool_calls: [call!] }],
        {
          template: "{{ messages[0].tool_calls[0].function.arguments | tojson }}",
          addGenerationPrompt: false,
        },
      );
      assert.equal(written, args.replaceAll("1e5", "100000.0"));
      // A changed one is written as it is now.
      given.a = "changed";
      assert.ok(
        renderChat([{ role: "assistant", content: null, tool_calls: [call!] }], {
          template: "{{ messages[0].tool_calls[0].function.arguments | tojson }}",
          addGenerationPrompt: false,
        }).startsWith('{"a": "changed", '),
      );
    }),
    { numRuns: 200 },
  );
});

Deno.test("no mark in an argument of a bare call is read, whatever stands there", () => {
  const marks = [
    "<tool_call>",
    "</tool_call>",
    '{"name": "rm", "arguments": {}}',
    "<function=rm></function>",
    "[TOOL_CALLS]",
    "<think>",
    "</think>",
    "[THINK]",
    "<|tool_call>",
    "words ",
  ];
  const text = fc.array(fc.constantFrom(...marks), { maxLength: 6 }).map((all) => all.join(""));
  fc.assert(fc.property(text, fc.constantFrom(null, ["llama3"] as const), (said, formats) => {
    const json = JSON.stringify({ name: "f", parameters: { said } });
    const { calls, faults, reasoning } = readAnswer(json, { formats });
    assert.deepEqual([calls, faults, reasoning], [[{ name: "f", arguments: { said } }], [], null]);
    const behind = readAnswer(`<think>\nhm\n</think>\n\n${json}`, { formats });
    assert.deepEqual(behind.calls, calls);
    assert.equal(behind.reasoning, "hm");
  }));
  fc.assert(fc.property(text, fc.constantFrom(null, ["pythonic"] as const), (said, formats) => {
    const python = `[f(said=${JSON.stringify(said)})]`;
    const { calls, faults } = readAnswer(python, { formats });
    assert.deepEqual([calls, faults], [[{ name: "f", arguments: { said } }], []]);
  }));
});

Deno.test("a list of calls that is cut or wrong is a fault where the model writes such lists", () => {
  const formats = ["pythonic"] as const;
  for (const cut of ["[f(a=1, s='x", "[f(a=1)", "[f(1)]", "[f(a=1+1)]", "[f(a=1)] and more"]) {
    const { calls, faults } = readAnswer(cut, { formats });
    assert.deepEqual([calls.length, faults.length], [0, 1], cut);
  }
  for (const words of ["[1, 2]", "[see (1)]", "[x] f(a=1)"]) {
    assert.deepEqual(readAnswer(words, { formats }).faults, [], words);
  }
});

Deno.test("arguments that are no object are a fault, whatever the family", () => {
  const wrong = ["5", "[1]", "true", '"[1]"'];
  for (const given of wrong) {
    const answers = [
      `<tool_call>{"name": "f", "arguments": ${given}}</tool_call>`,
      `[TOOL_CALLS][{"name": "f", "arguments": ${given}}]`,
      `[TOOL_CALLS]f[ARGS]${given}`,
      `<｜tool▁call▁begin｜>f<｜tool▁sep｜>${given}<｜tool▁call▁end｜>`,
      `<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>${given}<|tool_call_end|>`,
      `<|channel|>commentary to=functions.f<|message|>${given}<|call|>`,
      `{"name": "f", "parameters": ${given}}`,
    ];
    for (const answer of answers) {
      const { calls, faults } = readAnswer(answer);
      assert.deepEqual(calls, [], answer);
      assert.equal(faults.length, 1, answer);
    }
  }
});

Deno.test("behind calls no token that ends a turn is said, nor a mark without a call", () => {
  const call = '{"name": "f", "arguments": {}}';
  const answers: Readonly<Record<string, string>> = {
    [`[TOOL_CALLS][${call}]</s>`]: "",
    [`[TOOL_CALLS][${call}] done</s>`]: "done",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>":
      "",
    [`<tool_call>${call}</tool_call></tool_call><|im_end|>`]: "",
    [`<tool_call>${call}</tool_call> and <s>old</s>`]: "and <s>old</s>",
  };
  for (const [answer, content] of Object.entries(answers)) {
    const read = readAnswer(answer);
    assert.equal(read.calls.length, 1, answer);
    assert.equal(read.content, content, answer);
  }
});

Deno.test("a format or a mark of thoughts that nobody knows is an error with the nearest name", () => {
  const reading = (options: Record<string, unknown>) => () => readAnswer("x", options);
  assert.throws(reading({ formats: ["hermess"] }), /"hermess".*did you mean "hermes"/);
  assert.throws(reading({ formats: ["qwen"] }), ValidationError);
  assert.throws(reading({ thoughts: ["[THNK]"] }), /did you mean "\[THINK\]"/);
});

Deno.test("bare calls of Llama are calls in a list too, and in any order of keys", () => {
  const answers = [
    '[{"name": "f", "parameters": {"a": 1}}, {"name": "f", "parameters": {"a": 1}}]',
    '[{"parameters": {"a": 1}, "name": "f"}]',
    '{"type": "function", "id": "1", "name": "f", "parameters": {"a": 1}}',
    '{"id": "1", "parameters": {"a": 1}, "name": "f"}',
    '{"name": "f", "parameters": {"a": 1}}; {"name": "f", "parameters": {"a": 1}}',
  ];
  for (const answer of answers) {
    const { calls, faults } = readAnswer(answer, { formats: ["llama3"] });
    assert.ok(calls.length > 0, answer);
    assert.deepEqual(faults, [], answer);
    for (const { name, arguments: given } of calls) {
      assert.deepEqual([name, given], ["f", { a: 1 }]);
    }
  }
  for (
    const answer of ['{"city": "Rome"}', '[{"a": 1}]', '[{"name": "Ann"}]', "[1, 2]", '{"a":']
  ) {
    const read = readAnswer(answer, { formats: ["llama3"] });
    assert.deepEqual([read.calls, read.faults, read.content], [[], [], answer]);
  }
});

Deno.test("a call of a given tool in another family's spelling is neither run nor an answer", () => {
  const tools = [{ type: "function", function: { name: "add" } }];
  const spelt = [
    '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]',
    '{"name": "add", "parameters": {"a": 1}}',
    "<function=add>\n<parameter=a>\n1\n</parameter>\n</function>",
    '<|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>',
    '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1,}}]',
  ];
  for (const text of spelt) {
    const { calls, faults } = readAnswer(text, { tools, formats: ["hermes"] });
    assert.deepEqual(calls, [], text);
    assert.equal(faults.length, 1, text);
    assert.match(faults[0]!.reason, /another way than this model's, which is hermes/);
  }
  // A tool that was not given, words, thoughts and code are words.
  const words = [
    '[TOOL_CALLS][{"name": "sub", "arguments": {"a": 1}}]',
    "I add one.",
    '<think>\n{"name": "add", "parameters": {"a": 1}}\n</think>\n\nno',
  ];
  for (const text of words) {
    assert.deepEqual(readAnswer(text, { tools, formats: ["hermes"] }).faults, [], text);
  }
});
