import { ValidationError } from "../../errors.ts";
import { nearestName } from "../../internal/suggest.ts";
import type { Message } from "../message.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { BUILTIN_TEMPLATES } from "./builtin.ts";

/** A chat template that a user adds with {@linkcode addChatTemplate}. */
export interface CustomTemplate {
  /** Jinja source with `{% generation %}` around what an assistant says. */
  readonly template: string;
  /** Turns rendered text back into messages. */
  readonly parse?: ((text: string) => Message[]) | undefined;
  /** Words in a model's name for which this template is chosen; case does not count. */
  readonly modelKeywords?: readonly string[] | undefined;
}

/** A chat template by name or as source; {@linkcode chooseTemplate} says which wins. */
export interface TemplateChoice {
  /** Jinja source. */
  readonly chatTemplate?: string | undefined;
  /** A named template, or `"model"` for the tokenizer's own. */
  readonly chatTemplateName?: string | undefined;
  /** Whose name and own template decide when nothing else is given. */
  readonly tokenizer?: Tokenizer | undefined;
}

/** The template that was chosen. */
export interface ChosenTemplate {
  /** Its name; `"model"` for the tokenizer's own, `"custom"` for a given source. */
  readonly name: string;
  /** Its source. */
  readonly template: string;
}

const custom = new Map<string, CustomTemplate>();

/** Words in model names by which a built-in template is chosen, in this order. */
const FAMILIES: readonly (readonly [keyword: string, name: string])[] = [
  ["qwen", "qwen"],
  ["dialogpt", "dialogpt"],
  ["microsoft/dialo", "dialogpt"],
  ["falcon", "falcon"],
  ["deepseek", "deepseek"],
  ["llama", "llama"],
];

/**
 * Adds a named chat template for the rest of the program.
 *
 * @example
 * ```ts
 * import { addChatTemplate } from "@sglang-rl/sglang-rl";
 *
 * addChatTemplate("plain", {
 *   template: "{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}",
 *   modelKeywords: ["my-model"],
 * });
 * ```
 *
 * @throws {ValidationError} The template has no `{% generation %}` block.
 */
export function addChatTemplate(name: string, options: CustomTemplate): void {
  if (!hasGenerationBlock(options.template)) {
    throw new ValidationError(
      `Template "${name}" must include {% generation %} blocks around what an assistant says, ` +
        "so that assistant tokens can be found",
    );
  }
  custom.set(name, options);
}

/** Names that `chatTemplateName` takes. */
export function chatTemplateNames(): string[] {
  return [...Object.keys(BUILTIN_TEMPLATES), ...custom.keys()];
}

/** The parser that a user gave for a named template. */
export function customParser(name: string): ((text: string) => Message[]) | undefined {
  return custom.get(name)?.parse;
}

/**
 * Chooses a template: a given source, then a given name, then by the model's name (custom keywords
 * first), then the tokenizer's own if it has `{% generation %}`, else chatml.
 *
 * This is TorchRL's order. To use the model's own template in any case give the name `"model"`.
 */
export function chooseTemplate(choice: TemplateChoice): ChosenTemplate {
  const { chatTemplate, chatTemplateName, tokenizer } = choice;
  if (chatTemplate !== undefined) return { name: "custom", template: chatTemplate };
  if (chatTemplateName === "model") return ownTemplate(tokenizer);
  if (chatTemplateName !== undefined) return namedTemplate(chatTemplateName);
  if (tokenizer === undefined) {
    throw new ValidationError(
      "Give a tokenizer, a chatTemplateName or a chatTemplate: nothing tells how to render a chat",
    );
  }
  const family = familyOf(tokenizer.name);
  if (family !== undefined) return namedTemplate(family);
  const own = tokenizer.chatTemplate;
  if (own !== null && hasGenerationBlock(own)) return { name: "model", template: own };
  return namedTemplate("chatml_format");
}

/** The name of the template that fits a model's name. */
export function familyOf(modelName: string): string | undefined {
  const lower = modelName.toLowerCase();
  for (const [name, { modelKeywords }] of custom) {
    if (modelKeywords?.some((keyword) => lower.includes(keyword.toLowerCase()))) return name;
  }
  return FAMILIES.find(([keyword]) => lower.includes(keyword))?.[1];
}

/** The error for a name that no template has. */
export function unknownTemplate(name: string): ValidationError {
  const names = chatTemplateNames();
  const near = nearestName(name, names);
  return new ValidationError(
    `Chat template "${name}" is not known${near ? `; did you mean "${near}"?` : ""} ` +
      `Known are ${names.join(", ")}; add others with addChatTemplate()`,
  );
}

function namedTemplate(name: string): ChosenTemplate {
  const template = custom.get(name)?.template ??
    (Object.hasOwn(BUILTIN_TEMPLATES, name) ? BUILTIN_TEMPLATES[name] : undefined);
  if (template === undefined) throw unknownTemplate(name);
  return { name, template };
}

function ownTemplate(tokenizer: Tokenizer | undefined): ChosenTemplate {
  const template = tokenizer?.chatTemplate ?? null;
  if (template !== null) return { name: "model", template };
  throw new ValidationError(
    'chatTemplateName "model" needs a tokenizer that has a chat template; name another template',
  );
}

function hasGenerationBlock(template: string): boolean {
  return /\{%[-+]?\s*generation\s*[-+]?%\}/.test(template);
}
