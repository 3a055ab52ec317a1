import type { TemplateFamily } from "./family.ts";
import { parseChatml } from "./parse_chatml.ts";

/** ChatML, the template of models that are not known: TorchRL's fallback. */
export const chatml: TemplateFamily = {
  name: "chatml_format",
  keywords: [],
  template: `{%- for message in messages %}
  {{- '<|im_start|>' + message.role + '\\n' }}
  {%- if message.role == 'assistant' %}
    {{- '' }}{% generation %}{{- message.content }}{{- '<|im_end|>' }}{% endgeneration %}
  {%- else %}
    {{- message.content }}{{- '<|im_end|>' }}
  {%- endif %}
  {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`,
  parse: parseChatml,
};
