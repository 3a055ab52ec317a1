import { TokenDriftError } from "../../errors.ts";
import { areSame, beginsWith, firstDifference, joinIds } from "../../rollout/ids.ts";
import { startsWith } from "../../rollout/message_key.ts";
import {
  assistantMaskOf,
  prepareTurn,
  type Turn,
  turnIds,
  type TurnPrompt,
} from "../../rollout/turn.ts";
import { maskOf } from "../assistant_mask.ts";
import type { Message } from "../message.ts";
import type { MarkedText, TemplateChatModel } from "./chat_model.ts";
import { type GivenRow, isTurn } from "./given.ts";
import type { WrapperSettings } from "./options.ts";
import { type PromptRow, textRow, turnRow } from "./prompt_row.ts";
import { canonicalIds, isOfVocabulary } from "./vocabulary.ts";

/** What conversations are prepared with. */
export interface ChatContext {
  readonly model: TemplateChatModel;
  readonly settings: Pick<WrapperSettings, "onTokenDrift">;
  readonly signal: AbortSignal | undefined;
}

/**
 * The prompt of a conversation's next turn: the one that `nextTurn()` prepared, one that goes on from
 * a sampled turn, given ids that belong to the conversation, or the ids of its text.
 */
export async function chatPrompt(
  chat: readonly Message[],
  given: GivenRow,
  context: ChatContext,
): Promise<PromptRow> {
  const { model, signal } = context;
  const sampled = await ownPrompt(chat, given, context);
  if (sampled !== null) return turnRow(sampled);
  const start = await model.begin(chat, { signal });
  const { prompt, full } = given;
  if (prompt === null && full === null) return turnRow(startOf(chat, start, model));
  const ids = await belonging(start, given, context);
  if (ids === null) return drifted(chat, start, { given, context });
  return turnRow(await startWith(ids, { chat, start, given, context }));
}

/** A conversation to score: the ids of its sampled turn, given ids, or those of its text. */
export async function chatToScore(
  chat: readonly Message[],
  given: GivenRow,
  context: ChatContext,
): Promise<PromptRow> {
  const { model, signal } = context;
  const { full } = given;
  const turn = given.sampled;
  if (
    turn !== null && isTurn(turn) && full !== null && areSame(full, turnIds(turn)) &&
    isSaid([...turn.prompt.messages, turn.message], chat) && await isOfModel(turn.prompt, context)
  ) {
    const mask = new Uint8Array(full.length).fill(1);
    mask.set(assistantMaskOf(turn.prompt));
    const text = turn.prompt.text + (turn.sample.text ?? "");
    return textRow(text, { ids: full, chat, assistantMask: mask });
  }
  const whole = await model.whole(chat, { signal });
  const { text, ids, assistantMask } = whole;
  if (full === null) return textRow(text, { ids, chat, assistantMask });
  const own = given.assistantMask?.length === full.length ? given.assistantMask : null;
  if (areSame(full, ids)) {
    return textRow(text, { ids: full, chat, assistantMask: own ?? assistantMask });
  }
  const canonical = await canonicalIds(full, model.tokenizer, { signal });
  // What the template puts behind the last answer need not have been sampled.
  const lastSaid = assistantMask?.lastIndexOf(1) ?? ids.length;
  const isWhole = lastSaid < canonical.length ||
    await lacksOnlyItsEnd({ whole, chat, from: canonical.length }, context);
  if (beginsWith(ids, canonical) && isWhole) {
    const shown = canonical.length === ids.length
      ? text
      : await model.tokenizer.decode(canonical, { signal });
    const mask = own ??
      (areSame(full, canonical)
        ? assistantMask?.slice(0, full.length) ?? null
        : await maskOf(full, shown, { ...model, spans: whole.spans, signal }));
    return textRow(shown, { ids: full, chat, assistantMask: mask });
  }
  return driftedScore(chat, whole, { given, context });
}

/** An answer that was cut, or that a stop string ended, has no end token; the template writes one. */
async function lacksOnlyItsEnd(
  { whole, chat, from }: { whole: MarkedText; chat: readonly Message[]; from: number },
  { model, signal }: ChatContext,
): Promise<boolean> {
  if (chat.at(-1)?.isComplete === false) return true;
  const { ids, assistantMask } = whole;
  const missing = ids.subarray(from).filter((_, at) => assistantMask?.[from + at] === 1);
  if (missing.length !== 1) return false;
  const { eosToken, endTokens = [] } = model.tokenizer.specialTokens;
  const shown = await model.tokenizer.decode(missing, { signal });
  return /^<[^<>\s]+>$/.test(shown) || [...endTokens, eosToken].includes(shown);
}

/** The prompt that a sampled turn, or `nextTurn()`, knows for this conversation. */
async function ownPrompt(
  chat: readonly Message[],
  { sampled, prompt, full }: GivenRow,
  context: ChatContext,
): Promise<TurnPrompt | null> {
  if (sampled === null || !isTurn(sampled)) return null;
  if (!await isOfModel(sampled.prompt, context)) return null;
  const { model, signal } = context;
  if (
    prompt !== null && isSaid(sampled.prompt.messages, chat) &&
    areSame(prompt, sampled.prompt.ids)
  ) return { ...sampled.prompt, model };
  if (full === null || !areSame(full, turnIds(sampled))) return null;
  return goesOn(sampled, chat) ? await prepareTurn(model, chat, { parent: sampled, signal }) : null;
}

/** Whether a conversation goes on from a turn. */
export function goesOn({ prompt, message }: Turn, chat: readonly Message[]): boolean {
  return chat.length > prompt.messages.length + 1 &&
    startsWith(chat, [...prompt.messages, message]);
}

/** Whether a prompt has the same ids under this model's template and vocabulary. */
export async function isOfModel(
  prompt: TurnPrompt,
  { model, signal }: Pick<ChatContext, "model" | "signal">,
): Promise<boolean> {
  if (prompt.model === model) return true;
  const text = model.render(prompt.messages);
  if (!areSame(await model.tokenizer.encode(text, { signal }), prompt.textIds)) return false;
  return await isOfVocabulary(prompt.ids, [prompt.model.tokenizer, model.tokenizer], { signal });
}

/** The given ids, if tokenising what they say gives the ids of the conversation, or begins them. */
async function belonging(
  start: MarkedText,
  { prompt, full, isKept }: GivenRow,
  { model, signal }: ChatContext,
): Promise<Int32Array | null> {
  if (prompt !== null) {
    if (isKept || areSame(prompt, start.ids)) return prompt;
    if (areSame(await canonicalIds(prompt, model.tokenizer, { signal }), start.ids)) return prompt;
  }
  if (full === null) return null;
  const canonical = await canonicalIds(full, model.tokenizer, { signal });
  if (!beginsWith(start.ids, canonical)) return null;
  return joinIds(full, start.ids.subarray(canonical.length));
}

interface StartOptions {
  readonly chat: readonly Message[];
  readonly start: MarkedText;
  readonly given: GivenRow;
  readonly context: ChatContext;
}

/** A start with given ids. */
async function startWith(
  ids: Int32Array,
  { chat, start, given, context }: StartOptions,
): Promise<TurnPrompt> {
  const { model, signal } = context;
  const givenLogProbs = carried(given.logProbs, ids.length);
  const base = { ...startOf(chat, start, model), givenLogProbs };
  if (areSame(ids, start.ids)) {
    return { ...base, ids, givenMask: carried(given.assistantMask, ids.length) ?? base.givenMask };
  }
  const givenMask = carried(given.assistantMask, ids.length) ??
    (given.isKept ? null : await maskOf(ids, start.text, { ...model, spans: start.spans, signal }));
  return { ...base, ids, drift: firstDifference(ids, start.ids), givenMask };
}

function startOf(
  messages: readonly Message[],
  { text, ids, assistantMask }: MarkedText,
  model: TemplateChatModel,
): TurnPrompt {
  return {
    model,
    messages,
    text,
    ids,
    textIds: ids,
    kind: "start",
    parent: null,
    drift: null,
    branch: null,
    givenMask: assistantMask,
    givenLogProbs: null,
  };
}

interface DriftOptions {
  readonly given: GivenRow;
  readonly context: ChatContext;
}

/** Given ids that belong to another conversation. */
function drifted(
  chat: readonly Message[],
  start: MarkedText,
  { given, context }: DriftOptions,
): PromptRow {
  const { prompt } = given;
  const ids = prompt ?? given.full!;
  const index = firstDifference(ids, start.ids) ?? 0;
  const { onTokenDrift } = context.settings;
  if (onTokenDrift === "repair") {
    const branch = { index, within: "history" } as const;
    // As in any branch: what was said before is marked in rows of its own.
    const base = { ...startOf(chat, start, context.model), givenMask: null };
    return turnRow({ ...base, kind: "branch", branch });
  }
  if (onTokenDrift === "report" && prompt !== null) {
    const givenMask = carried(given.assistantMask, prompt.length);
    const givenLogProbs = carried(given.logProbs, prompt.length);
    const base = { ...startOf(chat, start, context.model), givenMask, givenLogProbs };
    return turnRow({ ...base, ids: prompt, drift: index });
  }
  throw driftError(ids, start.ids, {
    index,
    of: "the prompt's text",
    lacksPrompt: prompt === null,
  });
}

function driftedScore(
  chat: readonly Message[],
  whole: MarkedText,
  { given, context }: DriftOptions,
): PromptRow {
  const full = given.full!;
  const index = firstDifference(full, whole.ids) ?? 0;
  const { text, ids, assistantMask } = whole;
  switch (context.settings.onTokenDrift) {
    case "repair":
      return textRow(text, { ids, chat, assistantMask, drift: { index, sent: "text" } });
    case "report": {
      const mask = carried(given.assistantMask, full.length);
      return textRow(text, {
        ids: full,
        chat,
        assistantMask: mask,
        drift: { index, sent: "ids" },
      });
    }
    default:
      throw driftError(full, ids, { index, of: "the text to score" });
  }
}

/** The error for given ids that belong to another text. */
export function driftError(
  given: Int32Array,
  fresh: Int32Array,
  { index, of, lacksPrompt = false }: {
    index: number;
    of: "the prompt's text" | "the text to score";
    /** Whether the ids of prompt and response were given, and not those to send. */
    lacksPrompt?: boolean;
  },
): TokenDriftError {
  const report = `"report" (the given ids are sent${
    lacksPrompt ? ": give them as tokens.prompt" : ""
  })`;
  const instead = of === "the prompt's text"
    ? "Make the next turn with nextTurn()"
    : 'Score the ids alone with inputMode "tokens"';
  return new TokenDriftError(
    `The given token ids do not belong to ${of}: they differ from token ${index} on (given ` +
      `${given.length} ids, the text has ${fresh.length}). ${instead}, leave the tokens out, or give ` +
      `onTokenDrift "repair" (the text is tokenised) or ${report}`,
    { index },
  );
}

/** Values of ids that these begin with, or that begin with these; zeros behind them. */
function carried<Row extends Uint8Array | Float32Array>(
  row: Row | null,
  length: number,
): Row | null {
  if (row === null || row.length === 0) return null;
  const out = new (row.constructor as new (length: number) => Row)(length);
  out.set(row.subarray(0, length));
  return out;
}

function isSaid(one: readonly Message[], other: readonly Message[]): boolean {
  return one.length === other.length && startsWith(one, other);
}
