import type { Message } from "../../message.ts";
import { readMessage, type TemplateFamily } from "./family.ts";

/** Llama 4. */
export const llama: TemplateFamily = {
  name: "llama",
  keywords: ["llama"],
  template: `{{- bos_token }}
{%- for message in messages %}
  {%- set is_system = loop.first and message.role == 'system' %}
  {%- if not is_system or message.content | trim %}
    {{- '<|header_start|>' + message.role + '<|header_end|>\\n\\n' }}
    {%- if message.role == 'assistant' %}
      {{- '' }}{% generation %}{{- message.content }}{{- '<|eot|>' }}{% endgeneration %}
    {%- elif is_system %}
      {{- message.content | trim }}{{- '<|eot|>' }}
    {%- else %}
      {{- message.content }}{{- '<|eot|>' }}
    {%- endif %}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|header_start|>assistant<|header_end|>\\n\\n' }}{%- endif %}`,
  parse,
};

const HEADER = "<|header_start|>";
const HEADER_END = "<|header_end|>";
const END = "<|eot|>";

function parse(text: string): Message[] {
  const messages: Message[] = [];
  let at = text.indexOf(HEADER);
  while (at >= 0) {
    const roleEnd = text.indexOf(HEADER_END, at);
    if (roleEnd < 0) break;
    const role = text.slice(at + HEADER.length, roleEnd);
    const next = text.indexOf(HEADER, roleEnd);
    const turn = text.slice(roleEnd + HEADER_END.length, next < 0 ? text.length : next);
    const end = turn.indexOf(END);
    messages.push(readMessage(role, end < 0 ? turn : turn.slice(0, end), end >= 0));
    at = next;
  }
  return messages;
}
