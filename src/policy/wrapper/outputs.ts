import type { FinishReason, Generation, VersionSpan } from "../../client/types.ts";
import { ProtocolError } from "../../errors.ts";
import type { BatchShape } from "../batch_shape.ts";
import { ChatHistory } from "../chat_history.ts";
import { History } from "../history.ts";
import { LogProbs } from "../log_probs.ts";
import { Masks } from "../masks.ts";
import type { Message } from "../message.ts";
import { messageKey, rememberOrigin } from "../origin.ts";
import { joined } from "../padding.ts";
import { toolCallsIn } from "../templates/parse.ts";
import { Text } from "../text.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { Tokens } from "../tokens.ts";

/** How given ids differ from the text that they came with. */
export interface TokenDrift {
  /** Index of the first token that differs. */
  readonly index: number;
  /** What was sent: the given ids, or the ids of the text. */
  readonly sent: "ids" | "text";
}

/** A prompt, ready to be sent. */
export interface PromptRow {
  /** The ids to send; `null` to send the text and let the server tokenise it. */
  readonly ids: Int32Array | null;
  /** The prompt as text; `null` in tokens mode. */
  readonly text: string | null;
  /** The conversation; `null` outside history mode. */
  readonly chat: readonly Message[] | null;
  /** 1 on assistants' tokens of the prompt; `null` for none. */
  readonly assistantMask: Uint8Array | null;
  /** Log-probabilities of the prompt's tokens from earlier turns; `null` for none. */
  readonly logProbs: Float32Array | null;
  /** How given ids differed from the text. */
  readonly drift: TokenDrift | null;
}

/** What is known about one sample beside its tokens. */
export interface SampleInfo {
  /** Why it ended. */
  readonly finishReason: FinishReason;
  /** Whether it ended because the limit of tokens was reached. */
  readonly isTruncated: boolean;
  /** Whether it was aborted; what was made so far is kept. */
  readonly isAborted: boolean;
  /** Weight version of the server at the end; `null` when not told. */
  readonly policyVersion: string | null;
  /**
   * Versions of the response's tokens. Servers before 0.5.20 tell only the last one, which then
   * stands for all tokens.
   */
  readonly versionSpans: readonly VersionSpan[];
  /** How the given ids differed from the text; `null` when they did not. */
  readonly drift: TokenDrift | null;
  /** Everything that the engine told. */
  readonly generation: Generation;
}

/** Outputs before they go under their keys. */
export interface OutputParts {
  readonly batchShape: BatchShape;
  readonly text: Text | null;
  readonly tokens: Tokens;
  readonly masks: Masks;
  readonly logProbs: LogProbs | null;
  readonly history: ChatHistory | null;
  readonly samples: readonly SampleInfo[];
}

/** What the outputs are made from. */
export interface OutputSource {
  /** One for each sample: a prompt is repeated for each of its samples. */
  readonly prompts: readonly PromptRow[];
  /** One for each sample. */
  readonly generations: readonly Generation[];
  readonly batchShape: BatchShape;
  readonly returnLogProbs: boolean;
  /** Whose ids the rows are. */
  readonly tokenizer: () => Promise<Tokenizer>;
}

/** The outputs of generation. */
export function generatedOutputs(source: OutputSource): OutputParts {
  const { prompts, generations, batchShape } = source;
  const prompt = prompts.map((row, index) => promptIds(row, generations[index]!));
  const response = generations.map(({ ids }) => ids);
  const full = prompt.map((ids, index) => joined(ids, response[index]!));
  const responseMask = full.map((ids, index) =>
    new Uint8Array(ids.length).fill(1, prompt[index]!.length)
  );
  const assistantMask = responseMask.map((mask, row) => {
    const whole = mask.slice();
    whole.set(prompts[row]!.assistantMask ?? []);
    return whole;
  });
  const history = historyOutput(source);
  rememberOrigins(source, { prompt, full, assistantMask, history });
  return {
    batchShape,
    tokens: new Tokens({ prompt, response, full }, batchShape),
    masks: new Masks({
      allAttentionMask: full.map((ids) => new Uint8Array(ids.length).fill(1)),
      allAssistantMask: assistantMask,
      responseMask,
    }, batchShape),
    logProbs: source.returnLogProbs ? generatedLogProbs(source, prompt) : null,
    text: textOutput(source),
    history,
    samples: generations.map((generation, row) => sampleInfo(generation, prompts[row]!)),
  };
}

/** Whatever is done with the rows, their ids need not be compared with what they say. */
function rememberOrigins(
  { prompts, generations, tokenizer }: OutputSource,
  rows: {
    prompt: readonly Int32Array[];
    full: readonly Int32Array[];
    assistantMask: readonly Uint8Array[];
    history: ChatHistory | null;
  },
): void {
  const answers = rows.history?.get("response").chats;
  for (const [row, { drift, text: promptText, chat }] of prompts.entries()) {
    // Ids that drifted say something else, and without a text there is nothing to compare.
    if (drift !== null || promptText === null) continue;
    const [prompt, full, mask] = [rows.prompt[row]!, rows.full[row]!, rows.assistantMask[row]!];
    const { text, ids } = generations[row]!;
    const answer = answers?.[row]?.[0];
    rememberOrigin(prompt, {
      promptText,
      response: null,
      assistantMask: mask.subarray(0, prompt.length),
      parts: [full.subarray(0, prompt.length)],
      tokenizer,
    });
    rememberOrigin(full, {
      promptText,
      response: {
        text: text ?? "",
        message: answer ? messageKey(answer) : null,
        turn: chat?.length ?? 0,
      },
      assistantMask: mask,
      parts: [prompt, ids],
      tokenizer,
    });
  }
}

/** The outputs of scoring: log-probabilities of given tokens. */
export function scoredOutputs(source: OutputSource): OutputParts {
  const { prompts, generations, batchShape } = source;
  const full = prompts.map((row, index) => promptIds(row, generations[index]!));
  const logProbs = generations.map((generation, row) => {
    const given = checkedLogProbs(generation.promptLogProbs, {
      count: full[row]!.length,
      row,
      isFirstUnknown: true,
    });
    return Float32Array.from(given, (value, index) => index === 0 ? 0 : value);
  });
  const assistant = prompts.every(({ assistantMask }) => assistantMask !== null)
    ? prompts.map(({ assistantMask }) => assistantMask!)
    : null;
  const texts = prompts.map(({ text }) => text);
  return {
    batchShape,
    tokens: new Tokens({ full }, batchShape),
    masks: new Masks({
      allAttentionMask: full.map((ids) => new Uint8Array(ids.length).fill(1)),
      allAssistantMask: assistant,
    }, batchShape),
    logProbs: new LogProbs({ full: logProbs }, batchShape),
    text: isAllText(texts) ? new Text({ full: texts }, batchShape) : null,
    history: historyOf(prompts, batchShape, (full) => new ChatHistory({ full }, { batchShape })),
    samples: generations.map((generation, row) => sampleInfo(generation, prompts[row]!)),
  };
}

function promptIds(row: PromptRow, generation: Generation): Int32Array {
  const ids = row.ids ?? generation.promptIds;
  if (ids !== null) return ids;
  throw new ProtocolError(
    "The server was sent text and did not return the ids of the prompt, so tokens are not known",
  );
}

function generatedLogProbs(source: OutputSource, prompt: readonly Int32Array[]): LogProbs {
  const { prompts, generations, batchShape } = source;
  const response = generations.map((generation, row) =>
    checkedLogProbs(generation.logProbs, { count: generation.ids.length, row })
  );
  const full = response.map((values, row) =>
    joined(prompts[row]!.logProbs ?? new Float32Array(prompt[row]!.length), values)
  );
  return new LogProbs({ response, full }, batchShape);
}

function checkedLogProbs(
  values: Float32Array | null,
  expected: { count: number; row: number; isFirstUnknown?: boolean },
): Float32Array {
  const { count, row, isFirstUnknown = false } = expected;
  if (values === null) {
    throw new ProtocolError(`Log-probabilities were asked for, but row ${row} came without`);
  }
  if (values.length !== count) {
    throw new ProtocolError(
      `Row ${row} has ${values.length} log-probabilities for ${count} tokens`,
    );
  }
  const wrong = values.findIndex((value, at) =>
    !Number.isFinite(value) && !(isFirstUnknown && at === 0)
  );
  if (wrong < 0) return values;
  throw new ProtocolError(
    `Row ${row} has the non-finite log-probability ${values[wrong]} at token ${wrong}`,
  );
}

function textOutput({ prompts, generations, batchShape }: OutputSource): Text | null {
  const prompt = prompts.map(({ text }) => text);
  const response = generations.map(({ text }) => text);
  if (!isAllText(prompt) || !isAllText(response)) return null;
  const full = prompt.map((text, row) => text + response[row]!);
  return new Text({ prompt, response, full }, batchShape);
}

function isAllText(texts: readonly (string | null)[]): texts is readonly string[] {
  return texts.every((text) => text !== null);
}

function historyOutput({ prompts, generations, batchShape }: OutputSource): ChatHistory | null {
  return historyOf(prompts, batchShape, (prompt) => {
    const answers = generations.map((generation) => [answerOf(generation)]);
    const response = History.fromRows(answers, batchShape);
    const full = prompt.extend(response, { dim: -1, inPlace: false });
    return new ChatHistory({ prompt, response, full }, { batchShape });
  });
}

function historyOf(
  prompts: readonly PromptRow[],
  batchShape: BatchShape,
  make: (history: History) => ChatHistory,
): ChatHistory | null {
  if (prompts.some(({ chat }) => chat === null)) return null;
  return make(History.fromRows(prompts.map(({ chat }) => chat!), batchShape));
}

/** A response as a message. Tool calls stay in the content too, so that it renders as it was made. */
function answerOf(generation: Generation): Message {
  const content = generation.text ?? "";
  return {
    role: "assistant",
    content,
    isComplete: generation.finishReason.type === "stop",
    toolCalls: toolCallsIn(content),
  };
}

function sampleInfo(generation: Generation, { drift }: PromptRow): SampleInfo {
  const { finishReason, weightVersion, weightVersions, ids } = generation;
  const whole = weightVersion === null
    ? []
    : [{ version: weightVersion, start: 0, end: ids.length }];
  return {
    finishReason,
    // A scored row ends by "length" too, after no token at all.
    isTruncated: finishReason.type === "length" && ids.length > 0,
    isAborted: finishReason.type === "abort",
    policyVersion: weightVersion,
    versionSpans: weightVersions ?? whole,
    drift,
    generation,
  };
}
