import type { Message } from "../../message.ts";
import { readMessage, type TemplateFamily } from "./family.ts";

const START = "<|im_start|>";

/** Messages of ChatML. Only the last may lack its end. */
export function parseChatml(text: string): Message[] {
  const messages: Message[] = [];
  let at = text.indexOf(START);
  while (at >= 0) {
    const start = at + START.length;
    const ends = /<\|im_end\|>|<\|endoftext\|>/g;
    ends.lastIndex = start;
    const end = ends.exec(text);
    const turn = text.slice(start, end?.index);
    const newline = turn.indexOf("\n");
    if (newline >= 0) {
      messages.push(readMessage(turn.slice(0, newline), turn.slice(newline + 1), end !== null));
    }
    at = end === null ? -1 : text.indexOf(START, ends.lastIndex);
  }
  return messages;
}

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
