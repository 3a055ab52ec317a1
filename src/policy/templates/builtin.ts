/**
 * The chat templates that TorchRL names, as Jinja with `{% generation %}` around what an assistant
 * says. They render the same text as TorchRL's; see `tests/unit/policy/template_test.ts`.
 */
export const BUILTIN_TEMPLATES: Readonly<Record<string, string>> = {
  chatml_format: `{%- for message in messages %}
  {{- '<|im_start|>' + message.role + '\\n' }}
  {%- if message.role == 'assistant' %}
    {{- '' }}{% generation %}{{- message.content }}{% endgeneration %}
  {%- else %}
    {{- message.content }}
  {%- endif %}
  {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`,

  qwen: `{%- set has_system = messages and messages[0].role == 'system' %}
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
    {%- for tool_call in message.tool_calls or [] %}
      {{- '' }}{% generation %}{{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}{{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}{% endgeneration %}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
  {%- elif message.role == 'tool' %}
    {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>tool' }}{%- endif %}
    {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
    {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`,

  dialogpt: `{%- for message in messages %}
  {%- if message.role == 'assistant' %}
    {{- '' }}{% generation %}{{- message.content }}{% endgeneration %}{{- eos_token }}
  {%- elif message.role == 'user' %}
    {{- message.content + eos_token }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- ' ' }}{%- endif %}`,

  falcon: `{%- for message in messages %}
  {%- if message.role == 'assistant' %}
    {{- 'Assistant:' }}{% generation %}{{- ' ' + message.content }}{% endgeneration %}{{- '\\n' }}
  {%- elif message.role == 'user' %}
    {{- 'User: ' + message.content + '\\n\\n' }}
  {%- elif message.role == 'system' %}
    {{- message.content + '\\n\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}`,

  deepseek: `{{- bos_token }}
{%- for message in messages %}
  {%- if message.role == 'assistant' %}
    {{- 'Assistant:' }}{% generation %}{{- ' ' + message.content }}{% endgeneration %}{{- eos_token }}
  {%- elif message.role == 'user' %}
    {{- 'User: ' + message.content + '\\n\\n' }}
  {%- elif message.role == 'system' %}
    {{- message.content + '\\n\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}`,

  llama: `{{- bos_token }}
{%- for message in messages %}
  {%- set is_system = loop.first and message.role == 'system' %}
  {%- if not is_system or message.content | trim %}
    {{- '<|header_start|>' + message.role + '<|header_end|>\\n\\n' }}
    {%- if message.role == 'assistant' %}
      {{- '' }}{% generation %}{{- message.content }}{% endgeneration %}
    {%- elif is_system %}
      {{- message.content | trim }}
    {%- else %}
      {{- message.content }}
    {%- endif %}
    {{- '<|eot|>' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|header_start|>assistant<|header_end|>\\n\\n' }}{%- endif %}`,
};
