import type { Message } from "../../message.ts";
import { readMessage, type TemplateFamily } from "./family.ts";

/** DialoGPT: turns ended by the end-of-sequence token. */
export const dialogpt: TemplateFamily = {
  name: "dialogpt",
  keywords: ["dialogpt", "microsoft/dialo"],
  template: `{%- for message in messages %}
  {%- if message.role == 'assistant' %}
    {{- '' }}{% generation %}{{- message.content }}{{- eos_token }}{% endgeneration %}
  {%- elif message.role == 'user' %}
    {{- message.content }}{{- eos_token }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- ' ' }}{%- endif %}`,
  parse,
};

/** Users and assistants take turns. */
function parse(text: string): Message[] {
  const parts = text.split("<|endoftext|>");
  return parts.flatMap((part, index) => {
    const isComplete = index < parts.length - 1;
    if (!isComplete && part.trim() === "") return [];
    return [readMessage(index % 2 === 0 ? "user" : "assistant", part, isComplete)];
  });
}
