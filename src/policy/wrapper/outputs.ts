import type { FinishReason, Generation, VersionSpan } from "../../client/types.ts";
import { ProtocolError } from "../../errors.ts";
import { checkedLogProbs, sampleOf } from "../../rollout/sample.ts";
import { endTurn, type Sampled, type Turn } from "../../rollout/turn.ts";
import type { BatchShape } from "../batch_shape.ts";
import { ChatHistory } from "../chat_history.ts";
import { History } from "../history.ts";
import { LogProbs } from "../log_probs.ts";
import { Masks } from "../masks.ts";
import { joined } from "../padding.ts";
import { Text } from "../text.ts";
import { Tokens } from "../tokens.ts";
import { isTurn } from "./given.ts";
import type { PromptRow, TokenDrift } from "./prompt_row.ts";

/** What is known about one sample beside its tokens. */
export interface SampleInfo {
  /** Why it ended. */
  readonly finishReason: FinishReason;
  /** Whether it ended because the limit of tokens was reached. */
  readonly isTruncated: boolean;
  /** Whether it was aborted; what was made so far is kept. */
  readonly isAborted: boolean;
  /** Weight version of the server at the end; `null` when not told. */
  readonly weightVersion: string | null;
  /**
   * Versions of the response's tokens. Servers before 0.5.20 tell only the last one, which then
   * stands for all tokens.
   */
  readonly weightVersions: readonly VersionSpan[];
  /** How the ids of the prompt differ from those of its text; `null` when they do not. */
  readonly drift: TokenDrift | null;
  /** The turn: its prompt, how that came about, and what was sampled; `null` outside history mode. */
  readonly turn: Turn | null;
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
  /** Whether the output has texts; not so where tokens are read. */
  readonly readsText: boolean;
  /** Text of ids, for a server that gives none. */
  readonly decode: (ids: Int32Array) => Promise<string>;
  readonly signal: AbortSignal | undefined;
}

/** The outputs of generation. */
export async function generatedOutputs(source: OutputSource): Promise<OutputParts> {
  const { prompts, generations, batchShape } = source;
  const sampled = await Promise.all(
    generations.map((generation, row) => endRow(prompts[row]!, generation, source)),
  );
  const prompt = sampled.map((row) => row.prompt.ids);
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
  const turns = sampled.map((row) => isTurn(row) ? row : null);
  return {
    batchShape,
    tokens: new Tokens({ prompt, response, full }, batchShape, { sampled }),
    masks: new Masks({
      allAttentionMask: full.map((ids) => new Uint8Array(ids.length).fill(1)),
      allAssistantMask: assistantMask,
      responseMask,
    }, batchShape),
    logProbs: source.returnLogProbs ? generatedLogProbs(source, prompt) : null,
    text: await textOutput(source),
    history: historyOutput(source, turns),
    samples: generations.map((generation, row) =>
      sampleInfo(generation, prompts[row]!, turns[row]!)
    ),
  };
}

/** What was sampled, with the prompt that it answers. */
async function endRow(
  { turn, ids, text }: PromptRow,
  generation: Generation,
  { signal }: OutputSource,
): Promise<Sampled> {
  if (turn !== null) return await endTurn(turn, generation, { signal });
  const sample = sampleOf(generation, ids ?? generation.promptIds);
  return { prompt: { ids: sample.promptIds, text }, sample };
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
    samples: generations.map((generation, row) => sampleInfo(generation, prompts[row]!, null)),
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

async function textOutput(source: OutputSource): Promise<Text | null> {
  const { prompts, generations, batchShape, readsText, decode } = source;
  const prompt = prompts.map(({ text }) => text);
  if (!readsText || !isAllText(prompt)) return null;
  const response = await Promise.all(generations.map(({ text, ids }) => text ?? decode(ids)));
  const full = prompt.map((text, row) => text + response[row]!);
  return new Text({ prompt, response, full }, batchShape);
}

function isAllText(texts: readonly (string | null)[]): texts is readonly string[] {
  return texts.every((text) => text !== null);
}

function historyOutput(
  { prompts, batchShape }: OutputSource,
  turns: readonly (Turn | null)[],
): ChatHistory | null {
  const answers = turns.flatMap((turn) => turn === null ? [] : [[turn.message]]);
  if (answers.length < turns.length) return null;
  return historyOf(prompts, batchShape, (prompt) => {
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

function sampleInfo(
  generation: Generation,
  { drift }: PromptRow,
  turn: Turn | null,
): SampleInfo {
  const { finishReason, weightVersion, weightVersions, ids } = generation;
  const whole = weightVersion === null
    ? []
    : [{ version: weightVersion, start: 0, end: ids.length }];
  return {
    finishReason,
    // A scored row ends by "length" too, after no token at all.
    isTruncated: finishReason.type === "length" && ids.length > 0,
    isAborted: finishReason.type === "abort",
    weightVersion,
    weightVersions: weightVersions ?? whole,
    drift,
    turn,
    generation,
  };
}
