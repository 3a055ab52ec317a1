import { Template } from "@huggingface/jinja";
import { ValidationError } from "../../errors.ts";
import { type Message, NO_ROLE, textOf } from "../message.ts";
import type { SpecialTokens } from "../tokenizer.ts";
import { messageOf } from "../../internal/thrown.ts";

/** How to render a conversation. */
export interface RenderOptions {
  /** Jinja source. */
  readonly template: string;
  /** Special tokens that the template may name. */
  readonly specialTokens?: SpecialTokens | undefined;
  /** End with the opening of an assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Further template variables, such as `tools` or `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

const parsed = new Map<string, Template>();

/** Renders a conversation with a chat template. Messages of role `<none>` are left out. */
export function renderChat(messages: readonly Message[], options: RenderOptions): string {
  const { template, specialTokens, addGenerationPrompt, variables } = options;
  try {
    return parsedTemplate(template).render({
      ...variables,
      messages: messages.filter((message) => message.role !== NO_ROLE).flatMap(forTemplate),
      add_generation_prompt: addGenerationPrompt,
      bos_token: specialTokens?.bosToken ?? "",
      eos_token: specialTokens?.eosToken ?? "",
      pad_token: specialTokens?.padToken ?? "",
    });
  } catch (error) {
    const reason = messageOf(error);
    throw new ValidationError(`The chat template refused this conversation: ${reason}`, {
      cause: error,
    });
  }
}

function parsedTemplate(source: string): Template {
  let template = parsed.get(source);
  if (template === undefined) {
    template = new Template(source);
    parsed.set(source, template);
  }
  return template;
}

/**
 * A message as templates expect it. Calls and responses that are already written out in the content
 * are not given a second time, so that a parsed conversation renders as it was.
 */
function forTemplate(message: Message): Record<string, unknown>[] {
  const { role } = message;
  const content = typeof message.content === "string" ? message.content : [...message.content];
  const text = textOf(message);
  const responses = toolResponsesIn(text) ?? message.toolResponses;
  if (role === "tool" && responses && responses.length > 0) {
    return responses.map((response) => ({ role, content: response }));
  }
  const plain: Record<string, unknown> = { role, content };
  const areCallsInText = text.includes("<tool_call>");
  if (message.toolCalls && !areCallsInText) plain.tool_calls = message.toolCalls;
  return [plain];
}

/** Responses written out in a tool's content, or `null`. */
export function toolResponsesIn(text: string): string[] | null {
  const blocks = [...text.matchAll(/<tool_response>\n(.*?)\n<\/tool_response>/gs)];
  return blocks.length === 0 ? null : blocks.map((block) => block[1]!);
}
