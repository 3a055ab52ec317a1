import { chooseTemplate } from "../templates/registry.ts";
import type { RenderOptions } from "../templates/render.ts";
import type { Tokenizer } from "../tokenizer.ts";
import type { WrapperSettings } from "./options.ts";

/** What prompts are made with. */
export interface PromptContext {
  readonly settings: WrapperSettings;
  readonly tokenizer: Tokenizer;
  readonly signal: AbortSignal | undefined;
}

/** The chat template of a wrapper, as options for rendering. */
export function templateOf(
  settings: WrapperSettings,
  tokenizer: Tokenizer,
): Omit<RenderOptions, "addGenerationPrompt"> {
  const { template } = chooseTemplate({
    chatTemplate: settings.chatTemplate,
    chatTemplateName: settings.chatTemplateName,
    tokenizer,
  });
  return {
    template,
    specialTokens: tokenizer.specialTokens,
    variables: settings.tokenizerKwargs,
  };
}
