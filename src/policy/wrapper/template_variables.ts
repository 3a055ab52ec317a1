import { ValidationError } from "../../errors.ts";

/**
 * Arguments of transformers' `apply_chat_template` that are no variables of a template, and what to
 * do instead. A template would pass them over without a word.
 */
const noVariables: Readonly<Record<string, string>> = {
  messages: "conversations are the input",
  add_generation_prompt: "a wrapper always opens the assistant's turn when it samples",
  continue_final_message: "render the conversation with History.applyChatTemplate({ " +
    'continueFinalMessage: true }), encode that text, and give the ids to a wrapper with inputMode "tokens"',
  chat_template: "it is the option chatTemplate",
  tokenize: "a wrapper always tokenises",
  padding: "it is the option padOutput",
  truncation: "prompts are never cut",
  max_length: "prompts are never cut",
  return_assistant_tokens_mask: "masks are in the output",
};

const camelCase: Readonly<Record<string, string>> = {
  addGenerationPrompt: "add_generation_prompt",
  continueFinalMessage: "continue_final_message",
  chatTemplate: "chat_template",
};

/**
 * Checks that what is given as variables are variables.
 *
 * @throws {ValidationError} One has a meaning elsewhere.
 */
export function checkTemplateVariables(variables: unknown): void {
  if (variables === undefined || variables === null) return;
  if (typeof variables !== "object" || Array.isArray(variables)) {
    throw new ValidationError(
      "tokenizerKwargs must be an object with variables of the chat template, such as " +
        "{ enable_thinking: false }",
    );
  }
  for (const name of Object.keys(variables)) {
    const known = camelCase[name] ?? name;
    if (!Object.hasOwn(noVariables, known)) continue;
    throw new ValidationError(
      `tokenizerKwargs: "${name}" is no variable of a chat template: ${noVariables[known]}`,
    );
  }
}
