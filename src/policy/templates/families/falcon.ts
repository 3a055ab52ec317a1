import type { TemplateFamily } from "./family.ts";
import { parsePrefixed } from "./parse_prefixed.ts";

/** Falcon: `User: …` and `Assistant: …`. */
export const falcon: TemplateFamily = {
  name: "falcon",
  keywords: ["falcon"],
  template: `{%- for message in messages %}
  {%- if message.role == 'assistant' %}
    {{- 'Assistant:' }}{% generation %}{{- ' ' + message.content }}{% endgeneration %}{{- '\\n' }}
  {%- elif message.role == 'user' %}
    {{- 'User: ' + message.content + '\\n\\n' }}
  {%- elif message.role == 'system' %}
    {{- message.content + '\\n\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}`,
  parse: parsePrefixed,
};
