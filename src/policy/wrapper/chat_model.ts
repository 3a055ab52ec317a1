import { inTurns } from "../../internal/work_turns.ts";
import { ValidationError } from "../../errors.ts";
import type { Logger } from "../../internal/logger.ts";
import type {
  ChatModel,
  ReadOptions,
  RenderedPrompt,
  SignalOptions,
} from "../../rollout/chat_model.ts";
import { PiecewiseTokenizer } from "../../rollout/piecewise_tokenizer.ts";
import { endTokenOf, type KnownSample } from "../../rollout/sample.ts";
import { opensThoughts, type ReadAnswer } from "../answers/answer.ts";
import { type AnswerReader, readAnswer } from "../answers/read_answer.ts";
import { type AnswerFormat, answerFormatOf, hidesMarks } from "../answers/model_marks.ts";
import type { ToolCallFormat } from "../answers/call_format.ts";
import { isHarmony } from "../answers/harmony.ts";
import { encodeWithMask } from "../assistant_mask.ts";
import { describe } from "../batch_shape.ts";
import type { Message } from "../message.ts";
import type { TemplateLimits } from "../templates/jinja/mod.ts";
import { chooseTemplate, hasTools } from "../templates/registry.ts";
import { renderChat, renderInSteps, type RenderOptions } from "../templates/render.ts";
import { renderWithSpans, type Span } from "../templates/spans.ts";
import { isWrittenIn, markOfCalls } from "../templates/written_calls.ts";
import type { DecodeOptions, Tokenizer } from "../tokenizer.ts";

/** What a {@linkcode TemplateChatModel} is made of. */
export interface TemplateChatModelOptions {
  /** Turns text into ids and back. */
  readonly tokenizer: Tokenizer;
  /** Chat template as Jinja source. */
  readonly chatTemplate?: string | undefined;
  /** Named chat template, or `"model"` for the tokenizer's own. */
  readonly chatTemplateName?: string | undefined;
  /** What decides when none is named: `"model"` (default) or TorchRL's order. */
  readonly chatTemplateOrder?: "model" | "torchrl" | undefined;
  /** Variables of the template, such as `tools`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
  /** Reads answers in place of the built-in reader. */
  readonly readAnswer?: AnswerReader | undefined;
  /** Ways in which the model writes calls. Default those that its template and its tokens tell of. */
  readonly toolCallFormats?: readonly ToolCallFormat[] | undefined;
  /** What the template may use while it renders. */
  readonly templateLimits?: Partial<TemplateLimits> | undefined;
  /** Where warnings go. */
  readonly logger: Logger;
}

/** What a template takes, and each message, in characters that take as long to tokenise. */
const TEMPLATE_WORK = 64, MESSAGE_WORK = 16;

/** A text, its ids, and where assistants speak in it. */
export interface MarkedText extends RenderedPrompt {
  /** What assistants wrote, in characters. */
  readonly spans: readonly Span[];
}

/** Conversations by a chat template and a tokenizer. */
export class TemplateChatModel implements ChatModel {
  /** The tokenizer; it remembers the ids of texts that it met. */
  readonly tokenizer: PiecewiseTokenizer;
  readonly #options: TemplateChatModelOptions;
  #template: string | null = null;
  #answerFormat: AnswerFormat | null = null;

  /** Looks at nothing before it is used. */
  constructor(options: TemplateChatModelOptions) {
    this.#options = options;
    const { tokenizer } = options;
    this.tokenizer = tokenizer instanceof PiecewiseTokenizer
      ? tokenizer
      : new PiecewiseTokenizer(tokenizer);
  }

  /** Whether it is made with this tokenizer. */
  isOf(tokenizer: Tokenizer): boolean {
    return this.tokenizer === tokenizer || this.tokenizer.inner === tokenizer;
  }

  /** The text of a conversation that an assistant is to go on with. */
  render(messages: readonly Message[]): string {
    return renderChat(messages, this.#renderOptions(true));
  }

  /** The same in slices, which leave others their turns of the event loop. */
  renderInSlices(
    messages: readonly Message[],
    { signal }: SignalOptions = {},
  ): Promise<string> {
    const first = TEMPLATE_WORK + MESSAGE_WORK * messages.length;
    return inTurns(renderInSteps(messages, this.#renderOptions(true)), { first, signal });
  }

  /** Text, ids and mask of a conversation that an assistant is to go on with. */
  begin(messages: readonly Message[], options: SignalOptions = {}): Promise<MarkedText> {
    return this.#marked(messages, { ...options, addGenerationPrompt: true });
  }

  /** A conversation that is complete: nothing is to be sampled behind it. */
  whole(messages: readonly Message[], options: SignalOptions = {}): Promise<MarkedText> {
    return this.#marked(messages, { ...options, addGenerationPrompt: false });
  }

  /**
   * An answer as a message: its text as the server shows it, and the calls of tools in it. Where calls
   * or thoughts are written with special tokens, which the server leaves out of the text, they are
   * read from the ids, and the content is what was said beside them.
   */
  async read(sample: KnownSample, { promptText, signal }: ReadOptions): Promise<Message> {
    const { variables, readAnswer: own } = this.#options;
    const tools = Array.isArray(variables?.tools) ? variables.tools : undefined;
    const isThinking = opensThoughts(promptText);
    const format = this.#answerFormat ??= this.#formatOfAnswers();
    const take = async (text: string) =>
      own === undefined
        ? readAnswer(text, { tools, isThinking, ...format, signal })
        : checkedAnswer(await own(text, { tools, isThinking, ...format, signal }));
    // A server without a tokenizer gives no text.
    const shown = sample.text ?? await this.#decoded(sample, { skipSpecialTokens: true, signal });
    const written = await this.#written(sample, signal);
    const answer = await take(shown);
    const isComplete = sample.finishReason.type === "stop";
    // Templates refuse messages that are written in channels.
    const isChanneled = (format.formats?.includes("gpt-oss") ?? false) && isHarmony(written);
    if (isChanneled || written !== shown) {
      const whole = written === shown ? answer : await take(written);
      // A mark that the server left out has a meaning, also where it opens no call and no thought.
      const isApart = isChanneled || hidesMarks({ written, shown }, format) ||
        whole.calls.length > answer.calls.length ||
        (whole.reasoning !== null && answer.reasoning === null);
      if (isApart) return messageOf(whole, { content: whole.content, isComplete, isApart });
    }
    // Tool calls stay in the content too, so that it renders as it was made.
    const message = messageOf(answer, { content: shown, isComplete, isApart: false });
    const { calls } = answer;
    const isSeen = calls.length === 0 || isWrittenIn(shown, calls, format);
    return isSeen ? message : { ...message, callsInContent: markOfCalls(shown, calls) };
  }

  /** What the ids say, special tokens included, without the one that ended the answer. */
  async #written(sample: KnownSample, signal: AbortSignal | undefined): Promise<string> {
    // Without special tokens nothing can be left out.
    const { wholeTokens } = this.tokenizer;
    if (wholeTokens?.length === 0 && sample.text !== null) return sample.text;
    return await this.#decoded(sample, { signal });
  }

  async #decoded(sample: KnownSample, options: DecodeOptions): Promise<string> {
    const { ids } = sample;
    const body = endTokenOf(sample) === null ? ids : ids.subarray(0, -1);
    return await this.tokenizer.decode(body, options);
  }

  async #marked(
    messages: readonly Message[],
    { signal, addGenerationPrompt }: SignalOptions & { addGenerationPrompt: boolean },
  ): Promise<MarkedText> {
    const { tokenizer } = this;
    const { text, spans } = renderWithSpans(messages, this.#renderOptions(addGenerationPrompt));
    const { ids, mask } = await encodeWithMask(text, spans, { tokenizer, signal });
    return { text, ids, assistantMask: mask, spans };
  }

  #renderOptions(addGenerationPrompt: boolean): RenderOptions {
    const { variables, tokenizer, templateLimits: limits } = this.#options;
    return {
      template: this.#template ??= this.#choose(),
      specialTokens: tokenizer.specialTokens,
      variables,
      limits,
      answerFormat: this.#answerFormat ??= this.#formatOfAnswers(),
      addGenerationPrompt,
    };
  }

  #formatOfAnswers(): AnswerFormat {
    const { tokenizer, toolCallFormats } = this.#options;
    const template = this.#template ??= this.#choose();
    const known = answerFormatOf({
      template,
      hasToken: (token) => tokenizer.idOf(token) !== null,
    });
    return toolCallFormats === undefined ? known : { ...known, formats: toolCallFormats };
  }

  #choose(): string {
    const { chatTemplate, chatTemplateName, chatTemplateOrder, variables, tokenizer, logger } =
      this.#options;
    const { template, guess } = chooseTemplate({
      chatTemplate,
      chatTemplateName,
      chatTemplateOrder,
      tokenizer,
      hasTools: hasTools(variables),
    });
    if (guess !== null) logger.warn(guess);
    return template;
  }
}

/** What a reader of the user's own gave, where it has the form. */
function checkedAnswer(answer: ReadAnswer): ReadAnswer {
  const { calls, faults, content } = (answer ?? {}) as Partial<ReadAnswer>;
  if (Array.isArray(calls) && Array.isArray(faults) && typeof content === "string") return answer;
  throw new ValidationError(
    "readAnswer must give { reasoning, content, calls, faults }: content a text, calls and faults " +
      `lists; it gave ${describe(answer)}`,
  );
}

function messageOf(
  { calls, faults, reasoning }: ReadAnswer,
  { content, isComplete, isApart }: { content: string; isComplete: boolean; isApart: boolean },
): Message {
  return {
    role: "assistant",
    content,
    isComplete,
    toolCalls: calls.length === 0 ? null : calls,
    ...(isApart && reasoning !== null ? { reasoning_content: reasoning } : {}),
    ...(faults.length === 0 ? {} : { toolCallFaults: faults }),
  };
}
