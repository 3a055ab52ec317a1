import { TemplateLimitError, ValidationError } from "../../errors.ts";
import { messageOf } from "../../internal/thrown.ts";
import { type AnswerFormat, answerFormatOf } from "../answers/model_marks.ts";
import { type Message, NO_ROLE } from "../message.ts";
import type { SpecialTokens } from "../tokenizer.ts";
import { atOnce, type Steps } from "../../internal/work_turns.ts";
import {
  JinjaError,
  type JinjaOptions,
  JinjaTemplate,
  OverBudget,
  type Rendered,
  type TemplateLimits,
} from "./jinja/mod.ts";
import { strip } from "./jinja/text.ts";
import { checkMessage, reasoningNames, templateMessages } from "./template_messages.ts";

/** How to render a conversation. */
export interface RenderOptions {
  /** Jinja source. */
  readonly template: string;
  /** Special tokens that the template may name. */
  readonly specialTokens?: SpecialTokens | undefined;
  /** End with the opening of an assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /**
   * End inside the last message, so that a model goes on with it: `true` for its content, or the name
   * of another field, such as `"reasoning_content"`. Default `false`.
   */
  readonly continueFinalMessage?: boolean | string | undefined;
  /** How the model writes its answers: calls that a content has written out are not given twice. */
  readonly answerFormat?: Partial<AnswerFormat> | undefined;
  /** Further template variables, such as `tools` or `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
  /** What the template may use; it is a program of somebody else. */
  readonly limits?: Partial<TemplateLimits> | undefined;
  /** For templates that tell the date. Default the time of the call. */
  readonly now?: (() => Date) | undefined;
}

/** A conversation as its template wrote it; `turns` count the dicts that the template saw. */
export interface RenderedMessages extends Rendered<number> {
  /** The role of each of those dicts. */
  readonly roles: readonly string[];
}

/** Templates that are kept parsed; the oldest goes first. */
const maxKept = 64;
const kept = new Map<string, JinjaTemplate>();
/** Not to be found in any message. */
const continueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

/**
 * Renders a conversation with a chat template, as transformers' `apply_chat_template` does. Messages
 * of role `<none>` are left out.
 *
 * @throws {ValidationError} The template or the conversation is wrong.
 * @throws {TemplateLimitError} The template used more steps, characters or depth than it may.
 */
export function renderChat(messages: readonly Message[], options: RenderOptions): string {
  return renderMessages(messages, options).text;
}

/** The same with the stretches that the template wrote for each message. */
export function renderMessages(
  messages: readonly Message[],
  options: RenderOptions,
): RenderedMessages {
  const dicts = atOnce(dictsOf(messages, options));
  if (options.continueFinalMessage) return renderOpenEnded(dicts, options);
  return render(dicts, options);
}

/**
 * The text of a conversation in steps, so that others have their turns while a long one is rendered.
 *
 * @throws {ValidationError} The template or the conversation is wrong.
 * @throws {TemplateLimitError} The template used more steps, characters or depth than it may.
 */
export function* renderInSteps(
  messages: readonly Message[],
  options: Omit<RenderOptions, "continueFinalMessage">,
): Steps<string> {
  const dicts = yield* dictsOf(messages, options);
  let parsed: JinjaTemplate | undefined;
  try {
    parsed = parsedTemplate(options.template);
    return (yield* parsed.renderInSteps(jinjaOptions(dicts, options))).text;
  } catch (error) {
    throw asTemplateError(error, parsed !== undefined);
  }
}

/** Messages that are made ready in one step. */
const MESSAGES_A_STEP = 64;

/** Messages as a template is given them. */
function* dictsOf(
  messages: readonly Message[],
  options: RenderOptions,
): Steps<readonly Record<string, unknown>[]> {
  if (messages.length === 0) {
    throw new ValidationError("A chat template needs at least one message");
  }
  const { template } = options;
  const keepsParts = readsParts(template);
  const answerFormat = options.answerFormat ?? answerFormatOf({ template, hasToken: () => false });
  const dicts: Record<string, unknown>[] = [];
  for (const [index, message] of messages.entries()) {
    if (message?.role !== NO_ROLE) {
      checkMessage(message, index);
      dicts.push(...templateMessages(message, { keepsParts, answerFormat }));
    }
    if (index % MESSAGES_A_STEP === MESSAGES_A_STEP - 1) yield 4 * MESSAGES_A_STEP;
  }
  return dicts;
}

/** Whether a template loops over the parts of a content, as SGLang sees it; others get their text. */
function readsParts(template: string): boolean {
  return /\bfor\s+\w+(?:\s*,\s*\w+)*\s+in\s+[\w.[\]'"]*\bcontent\b/.test(template);
}

function render(
  dicts: readonly Record<string, unknown>[],
  options: RenderOptions,
): RenderedMessages {
  let parsed: JinjaTemplate | undefined;
  try {
    parsed = parsedTemplate(options.template);
    const rendered = parsed.render(jinjaOptions(dicts, options));
    return { ...rendered, roles: dicts.map(({ role }) => String(role)) };
  } catch (error) {
    throw asTemplateError(error, parsed !== undefined);
  }
}

function jinjaOptions(
  dicts: readonly Record<string, unknown>[],
  { specialTokens, addGenerationPrompt, variables, limits, now }: RenderOptions,
): JinjaOptions {
  const tokens = {
    bos_token: specialTokens?.bosToken,
    eos_token: specialTokens?.eosToken,
    pad_token: specialTokens?.padToken,
    unk_token: specialTokens?.unkToken,
  };
  // What a tokenizer has not is not there for the template either.
  const present = Object.entries(tokens).filter(([, token]) => typeof token === "string");
  return {
    variables: {
      tools: null,
      documents: null,
      ...Object.fromEntries(present),
      ...variables,
      messages: dicts,
      add_generation_prompt: addGenerationPrompt,
    },
    limits,
    now,
  };
}

function asTemplateError(error: unknown, isParsed: boolean): Error {
  if (error instanceof OverBudget) {
    return new TemplateLimitError(error.limit, error.allowed, { cause: error });
  }
  // What the template itself raises is meant for whoever wrote the conversation.
  const isRaised = error instanceof JinjaError && error.kind === "TemplateError";
  const said = error instanceof JinjaError && !isRaised
    ? `${error.kind}: ${error.message}`
    : messageOf(error);
  const what = isRaised
    ? "The chat template refused this conversation"
    : isParsed
    ? "The chat template failed on this conversation, which it may not be made for"
    : "The chat template is wrong, whatever the conversation";
  return new ValidationError(`${what}: ${said}`, { cause: error });
}

function renderOpenEnded(
  dicts: readonly Record<string, unknown>[],
  options: RenderOptions,
): RenderedMessages {
  const { continueFinalMessage, addGenerationPrompt } = options;
  if (addGenerationPrompt) {
    throw new ValidationError(
      "continueFinalMessage and addGenerationPrompt exclude each other: the one goes on with the " +
        "last message, the other opens a new one",
    );
  }
  const field = continueFinalMessage === true ? "content" : continueFinalMessage as string;
  const last = dicts.at(-1)!;
  const given = last[field];
  const text = Array.isArray(given) ? given.findLast((part) => "text" in part)?.text : given;
  if (typeof text !== "string") {
    throw new ValidationError(`The last message has no "${field}" to go on with`);
  }
  const tagged = Array.isArray(given)
    ? given.with(-1, { ...given.at(-1), text: text + continueTag })
    : text + continueTag;
  // Reasoning goes by several names, of which a template reads one.
  const names = reasoningNames.includes(field)
    ? reasoningNames.filter((name) => last[name] === given)
    : [field];
  if (!names.some((name) => options.template.includes(name))) {
    throw new ValidationError(
      `The template reads no "${names.join('" or "')}", so nothing can go on with it`,
    );
  }
  const changed = Object.fromEntries(names.map((name) => [name, tagged]));
  const rendered = render([...dicts.slice(0, -1), { ...last, ...changed }], options);
  const at = rendered.text.lastIndexOf(continueTag.trim());
  if (at < 0 || !rendered.text.includes(strip(text, null, "both"))) {
    throw new ValidationError(
      "The template does not write the last message as it is, so nothing can go on with it",
    );
  }
  const isWhole = rendered.text.startsWith(continueTag, at);
  const cut = rendered.text.slice(0, at);
  return { ...rendered, text: isWhole ? cut : strip(cut, null, "right") };
}

function parsedTemplate(source: string): JinjaTemplate {
  let template = kept.get(source);
  if (template === undefined) {
    template = new JinjaTemplate(source);
    if (kept.size >= maxKept) kept.delete(kept.keys().next().value!);
    kept.set(source, template);
  }
  return template;
}
