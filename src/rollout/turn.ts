import type { Generation } from "../client/types.ts";
import type { Message } from "../policy/message.ts";
import type { ChatModel, Sampler, SignalOptions } from "./chat_model.ts";
import { beginsWith, firstDifference, joinIds } from "./ids.ts";
import { type KnownSample, sampleOf } from "./sample.ts";

/** Ids that were sampled, and the prompt that they answer. */
export interface Sampled {
  /** The prompt. */
  readonly prompt: {
    /** The ids that were sent. */
    readonly ids: Int32Array;
    /** The prompt as text; `null` when it was given as ids. */
    readonly text: string | null;
  };
  /** The answer. */
  readonly sample: KnownSample;
}

/** How the prompt of a turn came about. */
export type PromptKind =
  /** A conversation of which nothing was sampled here. */
  | "start"
  /** The ids of the turn before, as they were sampled, and behind them what the template adds. */
  | "append"
  /** The template writes the history in another way than it was sampled: its ids begin a new row. */
  | "branch";

/** Where the history that a template writes leaves what was sampled. */
export interface BranchPoint {
  /** Index of the first id that differs from the turn before. */
  readonly index: number;
  /** What is written otherwise: something before the last answer, or the answer itself. */
  readonly within: "history" | "answer";
}

/** A prompt that is ready to be sampled from. */
export interface TurnPrompt {
  /** What it was made with. */
  readonly model: ChatModel;
  /** The conversation. */
  readonly messages: readonly Message[];
  /** The conversation as the template writes it. */
  readonly text: string;
  /** The ids to send `(P)`. */
  readonly ids: Int32Array;
  /** The ids of `text`: the same as `ids`, save where tokenising sampled text gives other ids. */
  readonly textIds: Int32Array;
  /** How it came about. */
  readonly kind: PromptKind;
  /** The turn that the conversation goes on from; `null` at a start. */
  readonly parent: Turn | null;
  /**
   * Index of the first sampled id for which tokenising the text gives another one; the sampled ids
   * are kept. `null` when there is none.
   */
  readonly drift: number | null;
  /** Why and where a branch begins; `null` for the other kinds. */
  readonly branch: BranchPoint | null;
  /** 1 on ids of a start that assistants wrote; `null` when not known, and for the other kinds. */
  readonly givenMask: Uint8Array | null;
  /** Log-probabilities that came with the ids of a start; `null` when not known, as above. */
  readonly givenLogProbs: Float32Array | null;
}

/** A turn of a conversation: what was sent, what was sampled, and what it says. */
export interface Turn extends Sampled {
  /** What was sent. */
  readonly prompt: TurnPrompt;
  /** What was sampled. */
  readonly sample: KnownSample;
  /** What it says: shown, and what the conversation goes on with. */
  readonly message: Message;
}

/** Options of {@linkcode prepareTurn}. */
export interface PrepareOptions extends SignalOptions {
  /** The turn that the conversation goes on from: its messages, its answer and more. */
  readonly parent?: Turn | null | undefined;
}

/**
 * Finds the ids of a conversation that an assistant is to go on with. Behind a sampled turn
 * ({@linkcode nextTurn}) they begin with the very ids of that turn, or they are those of the template
 * and marked as a branch; they are never a mixture.
 *
 * @throws {ValidationError} For messages that the template refuses.
 */
export async function prepareTurn(
  model: ChatModel,
  messages: readonly Message[],
  options: PrepareOptions = {},
): Promise<TurnPrompt> {
  const { parent = null, signal } = options;
  const base = { model, messages, parent, drift: null, branch: null };
  if (parent === null) {
    const { text, ids, assistantMask } = await model.begin(messages, { signal });
    return {
      ...base,
      text,
      ids,
      textIds: ids,
      kind: "start",
      givenMask: assistantMask,
      givenLogProbs: null,
    };
  }
  const text = await model.render(messages);
  const textIds = await model.tokenizer.encode(text, { signal });
  const written = { ...base, text, textIds, givenMask: null, givenLogProbs: null };
  const sampled = turnIds(parent);
  const until = await lengthOfSampled(parent, textIds, { model, signal });
  if (until !== null) {
    const ids = joinIds(sampled, textIds.subarray(until));
    const drift = firstDifference(ids, textIds);
    // Once in memory, where they are the same.
    return { ...written, ids: drift === null ? textIds : ids, kind: "append", drift };
  }
  const index = firstDifference(sampled, textIds) ?? sampled.length;
  const within = beginsWith(textIds, parent.prompt.textIds) ? "answer" : "history";
  return { ...written, ids: textIds, kind: "branch", branch: { index, within } };
}

/** The prompt of the turn after a sampled one: its conversation, its answer and further messages. */
export function nextTurn(
  turn: Turn,
  messages: readonly Message[],
  options: SignalOptions = {},
): Promise<TurnPrompt> {
  const { prompt, message } = turn;
  const all = [...prompt.messages, message, ...messages];
  return prepareTurn(prompt.model, all, { ...options, parent: turn });
}

/** Samples the answer to a prompt. */
export async function sampleTurn(
  prompt: TurnPrompt,
  sampler: Sampler,
  options: SignalOptions = {},
): Promise<Turn> {
  return await endTurn(prompt, await sampler(prompt.ids, options), options);
}

/** The turn of a prompt whose answer was sampled by other means. */
export async function endTurn(
  prompt: TurnPrompt,
  generation: Generation,
  options: SignalOptions = {},
): Promise<Turn> {
  const sample = sampleOf(generation, prompt.ids);
  const message = await prompt.model.read(sample, { ...options, promptText: prompt.text });
  return { prompt, sample, message };
}

/** Prompt and answer of a turn, as the model saw and made them `(P + R)`. */
export function turnIds({ prompt, sample }: Sampled): Int32Array {
  return joinIds(prompt.ids, sample.ids);
}

/**
 * 1 on what assistants wrote `(P)`: on what was sampled in the turns whose ids the prompt begins
 * with, and on the assistants' messages of the conversation that was given at the start. In a branch
 * nothing is marked: its earlier turns are rows of their own.
 */
export function assistantMaskOf(prompt: TurnPrompt): Uint8Array {
  const mask = new Uint8Array(prompt.ids.length);
  for (const turn of turnsWithin(prompt)) {
    const { length } = turn.prompt.ids;
    mask.fill(1, length, length + turn.sample.ids.length);
    if (turn.prompt.givenMask !== null) mask.set(turn.prompt.givenMask);
  }
  if (prompt.givenMask !== null) mask.set(prompt.givenMask);
  return mask;
}

/**
 * Log-probabilities `(P)` of what was sampled in the turns whose ids the prompt begins with, and those
 * that were given at the start; 0 elsewhere. `null` when one of the turns has none.
 */
export function logProbsOf(prompt: TurnPrompt): Float32Array | null {
  const values = new Float32Array(prompt.ids.length);
  for (const { prompt: { ids, givenLogProbs }, sample } of turnsWithin(prompt)) {
    if (sample.logProbs === null) return null;
    values.set(sample.logProbs, ids.length);
    if (givenLogProbs !== null) values.set(givenLogProbs);
  }
  if (prompt.givenLogProbs !== null) values.set(prompt.givenLogProbs);
  return values;
}

/** The turns whose ids a prompt begins with, latest first. */
export function* turnsWithin(prompt: TurnPrompt): Generator<Turn, void, undefined> {
  let at = prompt;
  while (at.kind === "append" && at.parent !== null) {
    yield at.parent;
    at = at.parent.prompt;
  }
}

/**
 * How many of the ids of a longer conversation's text are a turn's own, prompt and answer; `null`
 * when the text does not begin with them.
 *
 * The answer is put behind the prompt's text and tokenised with it. If the longer text begins with
 * just these ids, it says what was sampled, and any other id is one that tokenising gives for the
 * same text. Nothing is looked for in a text.
 */
async function lengthOfSampled(
  turn: Turn,
  textIds: Int32Array,
  { model, signal }: { model: ChatModel; signal: AbortSignal | undefined },
): Promise<number | null> {
  const { prompt, sample } = turn;
  if (sample.ids.length === 0) {
    return beginsWith(textIds, prompt.textIds) ? prompt.textIds.length : null;
  }
  const { tokenizer } = model;
  const tried = new Set<string>();
  for (const read of [readAlone, readInPlace]) {
    const answer = await read(turn, { model, signal });
    if (answer === null || tried.has(answer)) continue;
    tried.add(answer);
    const ids = await tokenizer.encode(prompt.text + answer, { signal });
    if (beginsWith(textIds, ids)) return ids.length;
  }
  return null;
}

interface DecodeContext extends SignalOptions {
  readonly model: ChatModel;
}

async function readAlone({ sample }: Turn, { model, signal }: DecodeContext): Promise<string> {
  return await model.tokenizer.decode(sample.ids, { signal });
}

/** Some tokenizers write the first token of a text without its space: here it is not the first. */
async function readInPlace(
  { prompt, sample }: Turn,
  { model, signal }: DecodeContext,
): Promise<string | null> {
  const before = prompt.ids.slice(-CONTEXT_TOKENS);
  const [start, whole] = await Promise.all([
    model.tokenizer.decode(before, { signal }),
    model.tokenizer.decode(joinIds(before, sample.ids), { signal }),
  ]);
  return whole.startsWith(start) ? whole.slice(start.length) : null;
}

const CONTEXT_TOKENS = 8;
