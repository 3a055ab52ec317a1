/** `POST /v1/completions`: bare texts and ids, without a chat template. */
import type { Asked } from "../asked.ts";
import type { EventStream } from "../event_stream.ts";
import { type GatewayRefusal, invalid } from "../fault.ts";
import { newId } from "../ids.ts";
import type { RecordedTurn } from "../recorded_turn.ts";
import type { AnswerPart } from "../session.ts";
import {
  type AnswerWriter,
  type Api,
  finishReasonOf,
  isRetry,
  openAIUsage,
  shownTokens,
  type WriteContext,
} from "./api.ts";
import { Fields, ignoredFields, STREAM_FIELDS } from "./fields.ts";
import { openAIError } from "./openai_error.ts";
import { grammarField, SAMPLING_FIELDS, samplingOf } from "./sampling_fields.ts";

const FIELDS = {
  used: [
    "model",
    "prompt",
    "max_tokens",
    "n",
    "stream",
    "stream_options",
    "logprobs",
    ...SAMPLING_FIELDS,
  ],
  ignored: ["user"],
  refused: {
    echo: "the prompt is not given back",
    suffix: "nothing can be filled in",
    best_of: "give n instead",
    response_format: "give regex or ebnf, or ask /v1/chat/completions",
  },
};

/** What OpenAI has where a request names none. */
const DEFAULT_MAX_TOKENS = 16;

/** OpenAI's old API of texts. */
export const completions: Api = {
  read(body, headers) {
    const plain = { ...body };
    if (plain.echo === false) delete plain.echo;
    if (plain.best_of === 1) delete plain.best_of;
    const fields = new Fields(plain);
    const ignored = [
      ...ignoredFields(plain, FIELDS),
      ...ignoredFields(fields.object("stream_options") ?? {}, STREAM_FIELDS, "stream_options."),
    ];
    const logprobs = fields.integer("logprobs", 0);
    const asked: Asked = {
      model: fields.needText("model"),
      input: promptOf(plain.prompt),
      tools: [],
      toolChoice: "none",
      variables: {},
      sampling: samplingOf(plain, fields.integer("max_tokens", 1) ?? DEFAULT_MAX_TOKENS),
      grammar: grammarField(plain, {
        format: {},
        formatField: "response_format",
        tools: [],
        toolChoice: "none",
      }),
      samples: fields.integer("n", 1) ?? 1,
      topLogProbs: logprobs ?? 0,
      isRetry: isRetry(headers),
    };
    const id = newId("cmpl-");
    const writer = new CompletionWriter({
      id,
      model: asked.model,
      hasLogProbs: logprobs !== undefined,
      includesUsage: fields.object("stream_options")?.include_usage === true,
    });
    return { asked, isStream: fields.flag("stream") ?? false, ignored, id, writer };
  },
  refuse: openAIError,
};

function promptOf(value: unknown): Asked["input"] {
  const one = Array.isArray(value) && value.length === 1 && typeof value[0] !== "number"
    ? value[0]
    : value;
  if (typeof one === "string" && one !== "") return { kind: "text", text: one };
  const isIds = Array.isArray(one) && one.length > 0 &&
    one.every((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 31);
  if (isIds) return { kind: "ids", ids: Int32Array.from(one as number[]) };
  throw invalid('"prompt" must be one text or one list of token ids, and not empty', "prompt");
}

interface CompletionWriterOptions {
  readonly id: string;
  readonly model: string;
  readonly hasLogProbs: boolean;
  readonly includesUsage: boolean;
}

class CompletionWriter implements AnswerWriter {
  readonly #options: CompletionWriterOptions;
  readonly #created = Math.floor(Date.now() / 1000);

  constructor(options: CompletionWriterOptions) {
    this.#options = options;
  }

  async whole(turns: readonly RecordedTurn[], context: WriteContext): Promise<unknown> {
    return {
      ...this.#frame(),
      choices: await Promise.all(turns.map(async (record, index) => ({
        index,
        text: record.shown.content,
        finish_reason: finishReasonOf(record),
        logprobs: await this.#logProbs(record, context),
      }))),
      usage: openAIUsage(turns),
    };
  }

  begin(): void {}

  part(stream: EventStream, { index, shown: { content } }: AnswerPart): void {
    if (content === "") return;
    const choice = { index, text: content, finish_reason: null, logprobs: null };
    stream.write({ ...this.#frame(), choices: [choice] });
  }

  async end(
    stream: EventStream,
    turns: readonly RecordedTurn[],
    context: WriteContext,
  ): Promise<void> {
    for (const [index, record] of turns.entries()) {
      const choice = {
        index,
        text: "",
        finish_reason: finishReasonOf(record),
        logprobs: await this.#logProbs(record, context),
      };
      stream.write({ ...this.#frame(), choices: [choice] });
    }
    if (this.#options.includesUsage) {
      stream.write({ ...this.#frame(), choices: [], usage: openAIUsage(turns) });
    }
    stream.write("[DONE]");
  }

  fail(stream: EventStream, refusal: GatewayRefusal): void {
    stream.write(openAIError(refusal));
    stream.write("[DONE]");
  }

  #frame(): Readonly<Record<string, unknown>> {
    const { id, model } = this.#options;
    return { id, object: "text_completion", created: this.#created, model };
  }

  async #logProbs({ turn, topLogProbs }: RecordedTurn, context: WriteContext): Promise<unknown> {
    if (!this.#options.hasLogProbs) return null;
    const { ids, logProbs } = turn.sample;
    const tokens = await shownTokens(ids, logProbs, context);
    let offset = turn.prompt.text.length;
    return {
      tokens: tokens.map(({ token }) => token),
      token_logprobs: tokens.map(({ logprob }) => logprob),
      top_logprobs: topLogProbs === null ? null : await Promise.all(
        topLogProbs.map(async ({ ids, logProbs }) => {
          const shown = await shownTokens(ids, logProbs, context);
          return Object.fromEntries(shown.map(({ token, logprob }) => [token, logprob]));
        }),
      ),
      text_offset: tokens.map(({ token }) => {
        const at = offset;
        offset += token.length;
        return at;
      }),
    };
  }
}
