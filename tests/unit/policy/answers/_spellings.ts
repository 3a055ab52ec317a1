/** One call in the spellings of all families. */
import type { ToolCallFormat } from "../../../../src/policy/chat.ts";

/** The call that each spelling writes. */
export const add = { name: "add", arguments: { a: 1, b: 2 } };
/** It in JSON. */
export const json = '{"name": "add", "arguments": {"a": 1, "b": 2}}';

/** One call of `add` in the spelling of each family. */
export const spellings: Readonly<Record<string, string>> = {
  "Hermes": `<tool_call>\n${json}\n</tool_call>`,
  "Hermes on one line": `<tool_call>${json}</tool_call>`,
  "Hermes, indented": `<tool_call>\n  ${json}\n  </tool_call>`,
  "Hermes with arguments as text":
    '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": 2}"}</tool_call>',
  "Hermes with parameters":
    '<tool_call>{"name": "add", "parameters": {"a": 1, "b": 2}}</tool_call>',
  "Hermes, closed by a stop text": `I add. <tool_call>${json}\n`,
  "Hermes before an end token": `<tool_call>${json}<|im_end|>`,
  "Llama 3.1": '{"name": "add", "parameters": {"a": 1, "b": 2}}',
  "Llama 3.1 with its end": '{"name": "add", "parameters": {"a": 1, "b": 2}}<|eom_id|>',
  "Llama 3.1 with its tag": '<|python_tag|>{"name": "add", "parameters": {"a": 1, "b": 2}}',
  "Mistral": `[TOOL_CALLS][${json}]`,
  "Mistral's later models": '[TOOL_CALLS]add[ARGS]{"a": 1, "b": 2}',
  "DeepSeek V3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n" +
    '{"a":1,"b":2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
  "DeepSeek V3.1": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>" +
    '{"a":1,"b":2}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
  "Qwen3-Coder": "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n" +
    "</parameter>\n</function>\n</tool_call>",
  "Qwen3-Coder without its frame": "<function=add><parameter=a>1</parameter><parameter=b>2" +
    "</parameter></function>",
  "GLM 4.5":
    "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n<arg_key>b</arg_key>\n" +
    "<arg_value>2</arg_value>\n</tool_call>",
  "Hermes as a list": `<tool_call>[${json}]</tool_call>`,
  "Mistral, and a word behind it": `[TOOL_CALLS] [${json}]\nDone`,
  "Llama 4": "[add(a=1, b=2)]",
  "Llama 4 with its tags": "<|python_start|>[add(a=1, b=2)]<|python_end|>",
  "LFM2": "<|tool_call_start|>[add(a=1, b=2)]<|tool_call_end|><|im_end|>",
  "LFM2 in JSON": `<|tool_call_start|>[${json}]<|tool_call_end|>`,
  "Granite": `<|tool_call|>[${json}]`,
  "Phi-4": `<|tool_call|>[${json}]<|/tool_call|><|end|>`,
  "Nemotron": `<TOOLCALL>[${json}]</TOOLCALL>`,
  "Gemma 4": "<|tool_call>call:add{a:1,b:2}<tool_call|><turn|>",
  "Cohere":
    '<|START_ACTION|>[\n{"tool_name": "add", "parameters": {"a": 1, "b": 2}}\n]<|END_ACTION|>',
  "MiniMax": '<minimax:tool_call>\n<invoke name="add">\n<parameter name="a">1</parameter>\n' +
    '<parameter name="b">2</parameter>\n</invoke>\n</minimax:tool_call>',
  "DeepSeek V3.2": '<｜DSML｜function_calls>\n<｜DSML｜invoke name="add">\n' +
    '<｜DSML｜parameter name="a" string="false">1</｜DSML｜parameter>\n' +
    '<｜DSML｜parameter name="b" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n' +
    "</｜DSML｜function_calls>",
  "DeepSeek V3.2 in JSON": '<｜DSML｜function_calls>\n<｜DSML｜invoke name="add">\n' +
    '{"a": 1, "b": 2}\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
  "Muse": '<atem:function_calls>\n<atem:invoke name="add">\n<atem:parameter name="a">1' +
    '</atem:parameter>\n<atem:parameter name="b">2</atem:parameter>\n</atem:invoke>\n' +
    "</atem:function_calls>",
  "DeepSeek V4": '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="add">\n' +
    '<｜DSML｜parameter name="a" string="false">1</｜DSML｜parameter>\n' +
    '<｜DSML｜parameter name="b" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n' +
    "</｜DSML｜tool_calls>",
  "dots": '<dots_function_call>\n<invoke name="add">\n<parameter name="a">1</parameter>\n' +
    '<parameter name="b">2</parameter>\n</invoke>\n</dots_function_call>',
  "Step 3": "<｜tool_calls_begin｜>\n<｜tool_call_begin｜>function<｜tool_sep｜>" +
    '<steptml:invoke name="add">\n<steptml:parameter name="a">1</steptml:parameter>\n' +
    '<steptml:parameter name="b">2</steptml:parameter>\n</steptml:invoke><｜tool_call_end｜>\n' +
    "<｜tool_calls_end｜>",
  "Seed-OSS": "<seed:tool_call>\n<function=add>\n<parameter=a>1</parameter>\n" +
    "<parameter=b>2</parameter>\n</function>\n</seed:tool_call><seed:eos>",
  "Hunyuan A13B": `<tool_calls>[${json}]</tool_calls>`,
  "MiniMax M1": `<tool_calls>\n${json}\n</tool_calls>`,
  "Hunyuan's later models": "<tool_calls>\n<tool_call>add<tool_sep>\n<arg_key>a</arg_key>\n" +
    "<arg_value>1</arg_value>\n<arg_key>b</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n" +
    "</tool_calls>",
  "InternLM": '<|action_start|><|plugin|>\n{"name": "add", "parameters": {"a": 1, "b": 2}}' +
    "<|action_end|>\n",
  "Intern-S1": `<|action_start|> <|plugin|>\n${json}<|action_end|>`,
  "Granite 20B": `<function_call> ${json}`,
  "Apertus": '<|tools_prefix|>[{"add": {"a": 1, "b": 2}}]<|tools_suffix|>',
  "OLMo 3": "<function_calls>\nadd(a=1, b=2)\n</function_calls>",
  "OLMo 3 before its end": "<function_calls>add(a=1, b=2)<|im_end|>",
  "invoke in a plain frame": '<function_calls>\n<invoke name="add">\n' +
    '<parameter name="a">1</parameter>\n<parameter name="b">2</parameter>\n</invoke>\n' +
    "</function_calls>",
  "FunctionGemma": "<start_function_call>call:add{a:1,b:2}<end_function_call>",
  "Command-R": 'Action: ```json\n[\n    {\n        "tool_name": "add",\n' +
    '        "parameters": {\n            "a": 1,\n            "b": 2\n        }\n    }\n]```',
  "Phi-4-mini": `functools[${json}]`,
  "gpt-oss": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary " +
    'to=functions.add <|constrain|>json<|message|>{"a": 1, "b": 2}<|call|>',
};

/** Spellings with marks, and the format of the models that write them. */
export const marked: readonly (readonly [ToolCallFormat, string])[] = [
  ["hermes", spellings["Hermes"]!],
  ["hermes", spellings["Qwen3-Coder"]!],
  ["hermes", spellings["GLM 4.5"]!],
  ["qwen3_coder", spellings["Qwen3-Coder without its frame"]!],
  ["mistral", spellings["Mistral"]!],
  ["deepseekv3", spellings["DeepSeek V3"]!],
  ["deepseekv32", spellings["DeepSeek V3.2"]!],
  ["llama3", spellings["Llama 3.1 with its tag"]!],
  ["pythonic", spellings["Llama 4 with its tags"]!],
  ["lfm2", spellings["LFM2"]!],
  ["phi4", spellings["Phi-4"]!],
  ["gemma4", spellings["Gemma 4"]!],
  ["nemotron", spellings["Nemotron"]!],
  ["cohere_command4", spellings["Cohere"]!],
  ["minimax-m2", spellings["MiniMax"]!],
  ["muse", spellings["Muse"]!],
  ["deepseekv4", spellings["DeepSeek V4"]!],
  ["dots", spellings["dots"]!],
  ["step3", spellings["Step 3"]!],
  ["hunyuan_a13b", spellings["Hunyuan A13B"]!],
  ["interns1", spellings["InternLM"]!],
  ["granite-20b-fc", spellings["Granite 20B"]!],
  ["apertus2509", spellings["Apertus"]!],
  ["olmo3", spellings["OLMo 3"]!],
  ["functiongemma", spellings["FunctionGemma"]!],
  ["phi4_mini_json", spellings["Phi-4-mini"]!],
  ["gpt-oss", spellings["gpt-oss"]!],
];
