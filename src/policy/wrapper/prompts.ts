import { TokenDriftError } from "../../errors.ts";
import { encodeWithMask, maskOf } from "../assistant_mask.ts";
import { firstDifference } from "../drift.ts";
import type { Message } from "../message.ts";
import { joined } from "../padding.ts";
import { type RenderedChat, renderWithSpans } from "../templates/spans.ts";
import { continuedRow, type KnownRow, knownRow, type Said } from "./known_rows.ts";
import type { PromptRow } from "./outputs.ts";
import { type PromptContext, templateOf } from "./prompt_context.ts";

/** Ids, masks and log-probabilities that came with a row of text. */
export interface GivenTokens {
  /** Ids of the prompt. */
  readonly prompt: Int32Array | null;
  /** Ids of the turn before, prompt and response. */
  readonly full: Int32Array | null;
  /** Assistant mask over one of the two. */
  readonly assistantMask: Uint8Array | null;
  /** Log-probabilities over one of the two. */
  readonly logProbs: Float32Array | null;
  /** Whether the prompt's ids are to be taken whatever the text says. */
  readonly isKept: boolean;
}

/** Renders a conversation and finds its ids: the given ones, or those of the text. */
export async function chatPrompt(
  chat: readonly Message[],
  given: GivenTokens,
  context: PromptContext,
): Promise<PromptRow> {
  const rendered = renderWithSpans(chat, {
    ...templateOf(context.settings, context.tokenizer),
    addGenerationPrompt: context.settings.generate,
  });
  const row = await fromGiven({ ...rendered, chat }, given, context) ??
    await fromText(rendered, context);
  return { ...row, chat };
}

/** Finds the ids of a text among the given ones; without any the server tokenises it. */
export async function textPrompt(
  text: string,
  given: GivenTokens,
  context: PromptContext,
): Promise<PromptRow> {
  const unknown = {
    ids: null,
    text,
    chat: null,
    assistantMask: null,
    logProbs: null,
    drift: null,
  };
  return await fromGiven({ text, spans: [], chat: null }, given, context) ?? unknown;
}

/** Ids that are to be sent as they are. */
export function idsPrompt(ids: Int32Array): PromptRow {
  return { ids, text: null, chat: null, assistantMask: null, logProbs: null, drift: null };
}

async function fromText(rendered: RenderedChat, context: PromptContext): Promise<PromptRow> {
  const { tokenizer, signal, settings } = context;
  const { text, spans } = rendered;
  const base = { text, chat: null, logProbs: null, drift: null };
  try {
    const { ids, mask } = await encodeWithMask(text, spans, { tokenizer, signal });
    return { ...base, ids, assistantMask: mask };
  } catch (error) {
    if (!(error instanceof TokenDriftError)) throw error;
    settings.logger.warn(
      `Assistant tokens of the prompt are left out of the mask: ${error.message}`,
    );
    return { ...base, ids: await tokenizer.encode(text, { signal }), assistantMask: null };
  }
}

async function fromGiven(
  rendered: RenderedChat & Said,
  given: GivenTokens,
  context: PromptContext,
): Promise<PromptRow | null> {
  const { prompt, full } = given;
  if (prompt === null && full === null) return null;
  const { text, chat } = rendered;
  if (prompt !== null && given.isKept) return withGiven(prompt, rendered, given, context);
  const withKnown = ({ ids, assistantMask }: KnownRow) =>
    withGiven(ids, rendered, { ...given, assistantMask }, context);
  const known = prompt && await knownRow(prompt, rendered, context);
  if (known) return withKnown(known);
  const ownText = prompt && await decoded(prompt, context);
  if (prompt !== null && ownText === text) return withGiven(prompt, rendered, given, context);
  if (prompt !== null && !context.settings.generate && isWhole(ownText!, rendered)) {
    return withGiven(prompt, { ...rendered, text: ownText! }, given, context);
  }
  const continued = full && chat && await continuedRow(full, chat, context);
  if (continued) return withKnown(continued);
  const extended = full && await extendedIds(full, text, context);
  if (extended) return withGiven(extended, rendered, given, context);
  return await drifted(prompt ?? full!, rendered, { given, context });
}

/** Whether a sampled conversation lacks nothing but what the template puts behind the last answer. */
function isWhole(given: string, { text, spans }: RenderedChat): boolean {
  const last = spans.at(-1);
  return last !== undefined && given.length >= last.end && text.startsWith(given);
}

/** The ids of the turn before and those of the text behind them, if they begin the text. */
async function extendedIds(
  full: Int32Array,
  text: string,
  context: PromptContext,
): Promise<Int32Array | null> {
  const before = await decoded(full, context);
  if (!text.startsWith(before)) return null;
  const { tokenizer, signal } = context;
  return joined(full, await tokenizer.encode(text.slice(before.length), { signal }));
}

async function withGiven(
  ids: Int32Array,
  rendered: RenderedChat,
  given: GivenTokens,
  context: PromptContext,
): Promise<PromptRow> {
  const { assistantMask, logProbs } = given;
  // The mask of a turn before is over ids that these begin with.
  const isCarried = assistantMask !== null && assistantMask.length > 0 &&
    (assistantMask.length === ids.length || assistantMask.length === given.full?.length);
  return {
    ids,
    text: rendered.text,
    chat: null,
    assistantMask: isCarried
      ? lengthened(assistantMask, ids.length)
      : await maskOf(ids, rendered.text, { ...context, spans: rendered.spans }),
    logProbs: logProbs === null ? null : lengthened(logProbs, ids.length),
    drift: null,
  };
}

async function drifted(
  ids: Int32Array,
  rendered: RenderedChat,
  { given, context }: { given: GivenTokens; context: PromptContext },
): Promise<PromptRow> {
  const { tokenizer, signal, settings } = context;
  const fresh = await tokenizer.encode(rendered.text, { signal });
  const index = firstDifference(ids, fresh) ?? 0;
  if (settings.onTokenDrift === "repair") {
    return { ...await fromText(rendered, context), drift: { index, sent: "text" } };
  }
  if (settings.onTokenDrift === "report" && given.prompt !== null) {
    const { text } = rendered;
    const { logProbs } = given;
    return {
      ...idsPrompt(given.prompt),
      text,
      logProbs: logProbs && lengthened(logProbs, ids.length),
      drift: { index, sent: "ids" },
    };
  }
  const [row, instead] = settings.generate
    ? ["the prompt's text", "Make the next turn with nextTurn()"]
    : ["the text to score", 'Score the ids alone with inputMode "tokens"'];
  throw new TokenDriftError(
    `The given token ids do not belong to ${row}: they differ from token ${index} on (given ` +
      `${ids.length} ids, the text has ${fresh.length}). ${instead}, leave the tokens out, or give ` +
      'onTokenDrift "repair" or "report"',
    { index },
  );
}

function lengthened<Row extends Uint8Array | Float32Array>(row: Row, length: number): Row {
  if (row.length >= length) return row.slice(0, length) as Row;
  const out = new (row.constructor as new (length: number) => Row)(length);
  out.set(row);
  return out;
}

async function decoded(ids: Int32Array, { tokenizer, signal }: PromptContext): Promise<string> {
  return await tokenizer.decode(ids, { signal });
}
