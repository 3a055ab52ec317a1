import type { TemplateFamily } from "./family.ts";
import { parsePrefixed } from "./parse_prefixed.ts";

/** DeepSeek's first chat models. */
export const deepseek: TemplateFamily = {
  name: "deepseek",
  keywords: ["deepseek"],
  template: `{{- bos_token }}
{%- for message in messages %}
  {%- if message.role == 'assistant' %}
    {{- 'Assistant:' }}{% generation %}{{- ' ' + message.content }}{{- eos_token }}{% endgeneration %}
  {%- elif message.role == 'user' %}
    {{- 'User: ' + message.content + '\\n\\n' }}
  {%- elif message.role == 'system' %}
    {{- message.content + '\\n\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}`,
  parse: parsePrefixed,
};
