import { ValidationError } from "../../errors.ts";
import { firstWhere } from "../../internal/first_where.ts";
import { type Message, textOf } from "../message.ts";
import { type Openings, openings, speakersOf } from "./openings.ts";
import { type RenderedMessages, renderMessages, type RenderOptions } from "./render.ts";
import { type ShownWord, shownWords } from "./shown_words.ts";
import { type OwnStretches, ownStretches } from "./tool_answers.ts";

/** A stretch of a text, `[start, end)` in UTF-16 units. */
export interface Span {
  /** Where it begins. */
  readonly start: number;
  /** Where it ends. */
  readonly end: number;
}

/** A rendered conversation and where the assistant speaks in it. */
export interface RenderedChat {
  /** The text. */
  readonly text: string;
  /** What assistants wrote, in order. */
  readonly spans: readonly Span[];
}

/**
 * Renders a conversation and finds what assistants wrote in it.
 *
 * Where the template has `{% generation %}` blocks, it is what they hold, as in transformers. Else it
 * is what the template's loop over the messages wrote for each assistant, without the opening that
 * stands in the prompt, and with the token that ends the turn: what a server samples. Nothing is
 * searched for in the text.
 *
 * What was found is verified: words of each message are followed through the template. Those of
 * assistants must be in the stretches, those of others must not.
 *
 * @throws {ValidationError} An assistant's turn is not in the text, or cannot be told from the rest.
 */
export function renderWithSpans(
  messages: readonly Message[],
  options: RenderOptions,
): RenderedChat {
  const whole = renderMessages(messages, options);
  const { text, generated, roles } = whole;
  const assistants = roles.flatMap((role, index) => role === "assistant" ? [index] : []);
  if (assistants.length === 0) return { text, spans: [] };
  const blocks = generated.filter((block) => block !== null && block.end > block.start) as Span[];
  const speakers = speakersOf(messages);
  const { spoken, places } = speakers;
  const silent = places.map((place) => saysNothing(spoken[place]!));
  const words = shownWords(messages, options, text);
  const hasBlocks = generated.length > 0 && !generated.includes(null);
  checkShown(words);
  if (hasBlocks) {
    checkCovered(blocks, assistants.filter((_, index) => !silent[index]), whole);
    return { text, spans: blocks };
  }
  let contents: readonly (Span | null)[] | undefined;
  const openingOf = openings(speakers, text, options);
  const spans = turnSpans(assistants, whole, {
    openingOf,
    ownOf: ownStretches(speakers, whole, { ...options, openingOf }),
    goesOn: (assistant) => spoken[places[assistant]! - 1]?.role === "assistant",
    isSilent: (assistant) => silent[assistant] ?? false,
    contentOf: (assistant) =>
      (contents ??= contentSpans(messages, options, text))[assistant] ?? null,
  });
  const found = merged(withEndTokens(spans, text, options));
  checkWords(words, found);
  return { text, spans: found };
}

/**
 * Of what an assistant said a template must show something, if only its calls or its thoughts. One that
 * knows no calls may leave them out, as transformers does: what is marked is what is shown.
 */
function checkShown(words: readonly ShownWord[]): void {
  const messages = Map.groupBy(words.filter((one) => one.isAssistant), ({ message }) => message);
  for (const [message, own] of messages) {
    const isShown = own.some(({ places }) => places.length > 0);
    if (isShown || own.every(({ mayBeLeftOut, isCall }) => mayBeLeftOut || isCall)) continue;
    throw new ValidationError(
      `The chat template shows nothing of what the assistant wrote in message ${message}, so its ` +
        "tokens cannot be marked. It may want contents as parts, such as " +
        '[{ type: "text", text: "…" }]',
    );
  }
}

/** Words of assistants must be marked where they are shown, those of others must not. */
function checkWords(words: readonly ShownWord[], spans: readonly Span[]): void {
  const isMarked = (place: number) => {
    const span = spans[firstWhere(spans.length, (at) => spans[at]!.end > place)];
    return span !== undefined && span.start <= place;
  };
  for (const { message, isAssistant, places } of words) {
    const marked = places.filter(isMarked).length;
    if (isAssistant ? places.length === 0 || marked > 0 : marked === 0) continue;
    throw new ValidationError(
      `What the assistant wrote cannot be told from the rest in what the chat template writes for ` +
        `message ${message}: its tokens would be marked wrongly. Use a template with ` +
        "{% generation %} blocks",
    );
  }
}

/** Each assistant's turn must have a block: a template may have forgotten those with calls only. */
function checkCovered(
  blocks: readonly Span[],
  assistants: readonly number[],
  { turns, text }: RenderedMessages,
): void {
  let next = 0;
  for (const turn of turns) {
    if (!assistants.includes(turn.message)) continue;
    if (text.slice(turn.start, turn.end).trim() === "") continue;
    while (next < blocks.length && blocks[next]!.end <= turn.start) next++;
    const block = blocks[next];
    if (block === undefined || block.start >= turn.end) throw notFound(turn.message);
  }
}

/** Whether a message has neither words nor thoughts nor calls. */
function saysNothing(message: Message): boolean {
  const { tool_calls, toolCalls, reasoning_content, reasoning, thinking } = message;
  const calls = tool_calls ?? toolCalls ?? [];
  return textOf(message).trim() === "" && calls.length === 0 &&
    !(reasoning_content || reasoning || thinking);
}

function notFound(message: number): ValidationError {
  return new ValidationError(
    `The chat template does not show what the assistant wrote in message ${message}, so its tokens ` +
      "cannot be marked: use a template with {% generation %} blocks, or one that writes each " +
      "message in its own turn of a loop",
  );
}

/** What turns are cut by. */
interface Borders {
  /** How a prompt opens the n-th assistant's turn. */
  readonly openingOf: Openings;
  /** What of a stretch of the n-th assistant is its own: others' messages may stand in it. */
  readonly ownOf: OwnStretches;
  /** Whether an assistant spoke just before the n-th: the turn may go on. */
  readonly goesOn: (assistant: number) => boolean;
  /** Whether the n-th assistant says nothing at all. */
  readonly isSilent: (assistant: number) => boolean;
  /** Where the n-th assistant's content stands, or `null`. */
  readonly contentOf: (assistant: number) => Span | null;
}

function turnSpans(
  assistants: readonly number[],
  { text, turns }: RenderedMessages,
  { openingOf, ownOf, goesOn, isSilent, contentOf }: Borders,
): Span[] {
  const stretches = new Map<number, Span[]>();
  for (const { message, start, end } of turns) {
    const list = stretches.get(message) ?? [];
    list.push({ start, end });
    stretches.set(message, list);
  }
  return assistants.flatMap((message, assistant) => {
    const [given, ...others] = stretches.get(message) ?? [];
    if (given === undefined) {
      if (isSilent(assistant)) return [];
      // The template does not loop over the messages themselves.
      const content = contentOf(assistant);
      if (content === null) throw notFound(message);
      return [content];
    }
    const [first, ...behind] = ownOf(assistant, given);
    const more = [...behind, ...others];
    const options = openingOf(assistant, first.start);
    const isUnmarked = options.length > 0 && options.every((opening) => opening === "");
    const start = isUnmarked
      ? contentOf(assistant)?.start ?? first.start
      : afterOpening(first, text, options) ??
        (goesOn(assistant) ? first.start : openedContent(first, text, {
          content: contentOf(assistant),
          options,
        }));
    if (start === null && isSilent(assistant)) return [];
    if (start === null) throw notFound(message);
    const spans = [{ start, end: first.end }, ...more].map((span) => {
      const end = beforeGlue(span, text);
      return { start: span.start, end: end ?? contentOf(assistant)?.end ?? span.end };
    });
    return spans.filter(({ start, end }) => end > start);
  });
}

// Characters of the private use area mark the borders: no template trims them or looks for them.
const START = "\uE0F0\uE0F1\uE0F0";
const END = "\uE0F1\uE0F0\uE0F1";

/**
 * Where the contents of assistants stand, for templates that write no opening or no end: by rendering
 * once more with marks at their first and last character. `null` where the marks changed the text.
 */
function contentSpans(
  messages: readonly Message[],
  options: RenderOptions,
  expected: string,
): readonly (Span | null)[] {
  const assistants = messages.filter(({ role }) => role === "assistant");
  const nothing = assistants.map(() => null);
  let marked: string;
  try {
    marked = renderMessages(messages.map(withMarks), options).text;
  } catch (error) {
    if (error instanceof ValidationError) return nothing;
    throw error;
  }
  const found: Span[] = [];
  const [first = "", ...pieces] = marked.split(START);
  let plain = first;
  for (const piece of pieces) {
    const parts = piece.split(END);
    if (parts.length !== 2) return nothing;
    const start = plain.length;
    plain += parts[0];
    found.push({ start, end: plain.length });
    plain += parts[1];
  }
  const withContent = assistants.filter((message) => withMarks(message) !== message);
  if (plain !== expected || found.length !== withContent.length) return nothing;
  return assistants.map((message) => withMarks(message) === message ? null : found.shift()!);
}

function withMarks(message: Message): Message {
  const { role, content, tool_calls, toolCalls } = message;
  const hasCalls = (tool_calls ?? toolCalls ?? []).length > 0;
  if (role !== "assistant" || typeof content !== "string" || hasCalls) return message;
  const start = content.search(/\S/);
  if (start < 0) return message;
  const end = content.trimEnd().length;
  const said = content.slice(start, end);
  return { ...message, content: content.slice(0, start) + START + said + END + content.slice(end) };
}

/** Where the assistant begins in its stretch, or `null` when the opening is nowhere. */
function afterOpening(span: Span, text: string, options: readonly string[]): number | null {
  for (const opening of options) {
    const end = span.start + opening.length;
    if (end <= span.end && text.startsWith(opening, span.start)) return end;
    if (text.endsWith(opening, span.start)) return span.start;
    // A template may write the first token of the sequence, or a line break, before it.
    const glue = text.slice(span.start, Math.min(span.end, span.start + 64)).indexOf(opening);
    if (glue > 0 && /^(?:\s|<[^<>\s]+>)*$/.test(text.slice(span.start, span.start + glue))) {
      return end + glue;
    }
  }
  return null;
}

/** Where a content begins that stands right behind an opening; a template may write more before it. */
function openedContent(
  span: Span,
  text: string,
  { content, options }: { content: Span | null; options: readonly string[] },
): number | null {
  if (content === null || content.start < span.start) return null;
  const before = text.slice(span.start, content.start);
  // A history may open no turn at all, but close what was before: nobody sampled that.
  const isOpened = /^[\s\])}]*$/.test(before) || options.some((one) => before.endsWith(one));
  return isOpened ? content.start : null;
}

const endToken = /(?:<\|[^<>|\s]+\|>|<｜[^<>｜\s]+｜>|<[/a-z_]+>|<[a-z_]+\|>)$/;

/** The end of the token that ends a turn, or `null`. White space behind it is the template's. */
function beforeGlue({ start, end }: Span, text: string): number | null {
  const trimmed = text.slice(start, end).trimEnd();
  return endToken.test(trimmed.slice(-64)) ? start + trimmed.length : null;
}

/**
 * Models that end a turn with the opening of the next one sample that token too. Others do not: a
 * template may open a tool's answer behind the calls, as Gemma 4's do with `<|tool_response>`.
 */
function withEndTokens(spans: readonly Span[], text: string, options: RenderOptions): Span[] {
  const ends = options.specialTokens?.endTokens ?? [];
  return spans.map(({ start, end: last }) => {
    const written = text.slice(start, last);
    if (ends.some((token) => written.endsWith(token))) return { start, end: last };
    const opened = /<\|(\w+)>$/.exec(written.slice(-64));
    const isClosed = opened !== null && options.template.includes(`<${opened[1]}|>`);
    const end = isClosed ? last - opened[0].length : last;
    const next = ends.find((token) => text.startsWith(token, end));
    return { start, end: end + (next?.length ?? 0) };
  });
}

/** Stretches in order; those that overlap become one. */
function merged(spans: readonly Span[]): Span[] {
  const result: { start: number; end: number }[] = [];
  for (const { start, end } of spans.toSorted((a, b) => a.start - b.start)) {
    const last = result.at(-1);
    if (last !== undefined && start < last.end) last.end = Math.max(last.end, end);
    else result.push({ start, end });
  }
  return result;
}
