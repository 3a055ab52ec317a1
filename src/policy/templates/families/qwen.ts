import type { TemplateFamily } from "./family.ts";
import { parseChatml } from "./chatml.ts";

/** Qwen2 and Qwen2.5: ChatML with a system message and calls in `<tool_call>`. */
export const qwen: TemplateFamily = {
  name: "qwen",
  keywords: ["qwen"],
  template: `{%- set has_system = messages and messages[0].role == 'system' %}
{%- set system = messages[0].content if has_system else 'You are a helpful assistant.' %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}
  {{- "\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with function signatures within <tools></tools> XML tags:\\n<tools>" }}
  {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
  {{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
  {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
  {%- elif message.role == 'assistant' %}
    {{- '<|im_start|>assistant' }}
    {%- if message.content or not message.tool_calls %}
      {{- '\\n' }}{% generation %}{{- message.content }}{% endgeneration %}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
      {%- set tool_call = call.function or call %}
      {{- '' }}{% generation %}{{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}{{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}{% endgeneration %}
    {%- endfor %}
    {{- '' }}{% generation %}{{- '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}
  {%- elif message.role == 'tool' %}
    {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>tool' }}{%- endif %}
    {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
    {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`,
  parse: parseChatml,
};
