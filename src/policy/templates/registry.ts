import { ValidationError } from "../../errors.ts";
import { nearestName } from "../../internal/suggest.ts";
import type { Message } from "../message.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { families } from "./families/mod.ts";

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
  /** Whose own template and name decide when nothing else is given. */
  readonly tokenizer?: Tokenizer | undefined;
  /**
   * What decides when no template is named. `"model"` (default): the model's own where it has one,
   * else a guess by its name. `"torchrl"`: TorchRL's order, in which the guess comes first and the
   * model's own counts only if it has `{% generation %}`.
   */
  readonly chatTemplateOrder?: "model" | "torchrl" | undefined;
  /** Whether tools are given: models may have a template of their own for that. */
  readonly hasTools?: boolean | undefined;
}

/** The template that was chosen. */
export interface ChosenTemplate {
  /** Its name; `"model"` for the tokenizer's own, `"custom"` for a given source. */
  readonly name: string;
  /** Its source. */
  readonly template: string;
  /** Why it may be the wrong one, where it was guessed. */
  readonly guess: string | null;
}

const custom = new Map<string, CustomTemplate>();

/**
 * Adds a named chat template for the rest of the program.
 *
 * @example
 * ```ts
 * import { addChatTemplate } from "@sglang-rl/sglang-rl/chat";
 *
 * addChatTemplate("plain", {
 *   template: "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}" +
 *     "{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}",
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
  return [...families.map(({ name }) => name), ...custom.keys()];
}

/** The parser of a named template: the user's, else the built-in one. */
export function parserOf(name: string): ((text: string) => Message[]) | undefined {
  return custom.get(name)?.parse ?? families.find((family) => family.name === name)?.parse;
}

/**
 * Chooses a template: a given source, then a given name, then one of `addChatTemplate()` whose keyword
 * is in the model's name, then the model's own, then a guess by the last part of its name, then
 * `chatml_format`. A guess says so in `guess`. {@linkcode TemplateChoice.chatTemplateOrder} takes
 * TorchRL's order instead.
 *
 * The name `"model"` stands for the model's own, `"model:NAME"` for one of several that it has.
 *
 * @throws {ValidationError} The name is not known, or nothing tells how to render a chat.
 */
export function chooseTemplate(choice: TemplateChoice): ChosenTemplate {
  const { chatTemplate, chatTemplateName, tokenizer, hasTools, chatTemplateOrder } = choice;
  if (chatTemplate !== undefined) {
    return { name: "custom", template: notEmpty(chatTemplate, "chatTemplate"), guess: null };
  }
  if (chatTemplateName !== undefined) return namedTemplate(chatTemplateName, choice);
  if (tokenizer === undefined) {
    throw new ValidationError(
      "Give a tokenizer, a chatTemplateName or a chatTemplate: nothing tells how to render a chat",
    );
  }
  if (chatTemplateOrder === "torchrl") return torchrlChoice(tokenizer);
  const added = addedFor(lastName(tokenizer.name));
  if (added !== undefined) return namedTemplate(added, choice);
  const own = ownTemplate(tokenizer, hasTools ?? false);
  if (own !== null) return { name: "model", template: own, guess: null };
  const model = tokenizer.name === "" ? "The model" : `The model ${tokenizer.name}`;
  const family = builtInFor(lastName(tokenizer.name));
  const name = family ?? "chatml_format";
  const guess = `${model} has no chat template of its own; "${name}" is ` +
    (family === undefined ? "used in its place" : "guessed from its name") +
    ". Name one with chatTemplateName or give its source with chatTemplate";
  return { ...namedTemplate(name, choice), guess };
}

function torchrlChoice(tokenizer: Tokenizer): ChosenTemplate {
  const family = familyOf(tokenizer.name);
  if (family !== undefined) return namedTemplate(family, {});
  const own = tokenizer.chatTemplate;
  if (own !== null && hasGenerationBlock(own)) return { name: "model", template: own, guess: null };
  return namedTemplate("chatml_format", {});
}

/** The last part of a path; of a name on the Hugging Face Hub (`owner/model`) all of it. */
function lastName(name: string): string {
  if (/^[\w.-]+\/[\w.-]+$/.test(name) && !name.startsWith(".")) return name;
  return name.split(/[/\\]/).findLast((part) => part !== "") ?? "";
}

/** The name of the template that fits a model's name, as TorchRL chooses. */
export function familyOf(modelName: string): string | undefined {
  return addedFor(modelName) ?? builtInFor(modelName);
}

function addedFor(modelName: string): string | undefined {
  const lower = modelName.toLowerCase();
  for (const [name, { modelKeywords }] of custom) {
    if (modelKeywords?.some((keyword) => lower.includes(keyword.toLowerCase()))) return name;
  }
}

function builtInFor(modelName: string): string | undefined {
  const lower = modelName.toLowerCase();
  return families.find(({ keywords }) => keywords.some((keyword) => lower.includes(keyword)))?.name;
}

/** Whether a template's variables name tools. */
export function hasTools(variables: Readonly<Record<string, unknown>> | undefined): boolean {
  return Array.isArray(variables?.tools) && variables.tools.length > 0;
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

function namedTemplate(name: string, choice: TemplateChoice): ChosenTemplate {
  if (name === "model" || name.startsWith("model:")) return modelTemplate(name, choice);
  const template = custom.get(name)?.template ??
    families.find((family) => family.name === name)?.template;
  if (template === undefined) throw unknownTemplate(name);
  return { name, template, guess: null };
}

function modelTemplate(name: string, { tokenizer, hasTools }: TemplateChoice): ChosenTemplate {
  const wanted = name.slice("model:".length);
  const all = tokenizer?.chatTemplates ?? {};
  const template = wanted === ""
    ? tokenizer && ownTemplate(tokenizer, hasTools ?? false)
    : Object.hasOwn(all, wanted)
    ? all[wanted]
    : null;
  if (typeof template === "string") return { name, template, guess: null };
  const known = Object.keys(all);
  throw new ValidationError(
    wanted === ""
      ? 'chatTemplateName "model" needs a tokenizer that has a chat template; name another template'
      : `The model has no chat template "${wanted}"; it has ${
        known.join(", ") || "none with a name"
      }`,
  );
}

/** A model's own template: the one for tools where there is one and tools are given. */
function ownTemplate(tokenizer: Tokenizer, hasTools: boolean): string | null {
  const { chatTemplates: all = {}, chatTemplate } = tokenizer;
  if (hasTools && all.tool_use !== undefined) return all.tool_use;
  const names = Object.keys(all);
  if (chatTemplate !== null) return notEmpty(chatTemplate, "the model's own chat template");
  if (names.length === 0) return null;
  throw new ValidationError(
    `The model has the chat templates ${names.join(", ")}, and none of them is the default: name ` +
      `one, such as chatTemplateName: "model:${names[0]}"`,
  );
}

/** An empty template would make every conversation an empty text. */
function notEmpty(template: string, what: string): string {
  if (template.trim() !== "") return template;
  throw new ValidationError(
    `${what[0]!.toUpperCase()}${
      what.slice(1)
    } is empty: give a source with chatTemplate, or name ` +
      "another one with chatTemplateName",
  );
}

function hasGenerationBlock(template: string): boolean {
  return /\{%[-+]?\s*generation\s*[-+]?%\}/.test(template);
}
