import { ValidationError } from "../../errors.ts";
import { type Message, NO_ROLE, textOf } from "../message.ts";
import { type RenderedMessages, renderMessages, type RenderOptions } from "./render.ts";

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
  const spoken = messages.filter(({ role }) => role !== NO_ROLE);
  const silent = spoken.filter(({ role }) => role === "assistant").map(saysNothing);
  if (generated.length > 0 && !generated.includes(null)) {
    checkCovered(blocks, assistants.filter((_, index) => !silent[index]), whole);
    return { text, spans: blocks };
  }
  let contents: readonly (Span | null)[] | undefined;
  const spans = turnSpans(assistants, whole, {
    openingOf: openings(spoken, text, options),
    ownOf: ownStretches(spoken, whole, options),
    isSilent: (assistant) => silent[assistant] ?? false,
    contentOf: (assistant) =>
      (contents ??= contentSpans(messages, options, text))[assistant] ?? null,
  });
  return { text, spans: merged(withEndTokens(spans, text, options)) };
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

/** Openings of the n-th assistant's turn, as a prompt ends with them; its stretch begins at `start`. */
type Openings = (assistant: number, start: number) => readonly string[];

/**
 * How a prompt opens an assistant's turn: what the template adds when it is asked to. It may depend
 * on who spoke before, so it is asked once for each such role.
 */
function openings(
  spoken: readonly Message[],
  text: string,
  options: RenderOptions,
): Openings {
  const places = spoken.flatMap(({ role }, index) => role === "assistant" ? [index] : []);
  const known = new Map<string, readonly string[]>();
  return (assistant, start) => {
    const place = places[assistant]!;
    const before = spoken[place - 1]?.role ?? "";
    let found = known.get(before);
    if (found === undefined) {
      const ahead = spoken.slice(0, place);
      const after = variants(openingAfter(ahead, options));
      const usual = before === "user" ? [] : variants(openingAfter([], options));
      const others = [...after, ...usual].filter((opening) => opening !== "");
      const within = promptWithin(ahead, { text, start, options });
      const none = after.filter((one) => one === "");
      found = within === null ? [...others, ...none] : [within, ...others];
      known.set(before, found);
    }
    return found;
  };
}

/**
 * What of an assistant's stretch stands in its prompt already: a template may close what was before,
 * such as the answers of tools, in either.
 */
function promptWithin(
  ahead: readonly Message[],
  { text, start, options }: { text: string; start: number; options: RenderOptions },
): string | null {
  if (ahead.length === 0) return null;
  const prompt = rendered(ahead, { ...options, addGenerationPrompt: true })?.text ?? "";
  return prompt.length >= start && text.startsWith(prompt) ? prompt.slice(start) : null;
}

/** A conversation as rendered, or `null` where the template refuses it. */
function rendered(messages: readonly Message[], options: RenderOptions): RenderedMessages | null {
  try {
    return renderMessages(messages, { ...options, continueFinalMessage: false });
  } catch (error) {
    if (error instanceof ValidationError) return null;
    throw error;
  }
}

function openingAfter(start: readonly Message[], options: RenderOptions): string | null {
  const before = start.length === 0 ? [{ role: "user", content: "" }] : start;
  const closed = rendered(before, { ...options, addGenerationPrompt: false })?.text;
  const open = rendered(before, { ...options, addGenerationPrompt: true })?.text;
  if (closed === undefined || open === undefined) return null;
  let same = 0;
  while (same < closed.length && closed[same] === open[same]) same++;
  // Not from inside a token: what closes a text may begin as what opens a turn does.
  const token = /<[^<>\s]*$/.exec(open.slice(Math.max(0, same - 64), same));
  return open.slice(same - (token?.[0].length ?? 0));
}

/** Where a template opens the reasoning too: an earlier turn may stand there without it. */
const reasoning =
  /<think>|<\/think>|<seed:think>|\[THINK\]|<\|channel\|>|<\|START_THINKING\|>|<\|channel>|<mm:think>/;

/** The opening as it is, and without the reasoning that it opens or closes. */
function variants(opening: string | null): readonly string[] {
  if (opening === null) return [];
  const at = opening.search(reasoning);
  const plain = at < 0 ? opening : opening.slice(0, at);
  return [...new Set([opening, plain, plain.trimEnd()])];
}

/** What turns are cut by. */
interface Borders {
  /** How a prompt opens the n-th assistant's turn. */
  readonly openingOf: Openings;
  /** What of a stretch of the n-th assistant is its own: others' messages may stand in it. */
  readonly ownOf: (assistant: number, span: Span) => readonly [Span, ...Span[]];
  /** Whether the n-th assistant says nothing at all. */
  readonly isSilent: (assistant: number) => boolean;
  /** Where the n-th assistant's content stands, or `null`. */
  readonly contentOf: (assistant: number) => Span | null;
}

function turnSpans(
  assistants: readonly number[],
  { text, turns }: RenderedMessages,
  { openingOf, ownOf, isSilent, contentOf }: Borders,
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
    const isUnmarked = options.every((opening) => opening === "");
    const start = isUnmarked
      ? contentOf(assistant)?.start ?? first.start
      : afterOpening(first, text, options);
    if (start === null && isSilent(assistant)) return [];
    if (start === null) throw notFound(message);
    const spans = [{ start, end: first.end }, ...more].map((span) => {
      const end = beforeGlue(span, text);
      return { start: span.start, end: end ?? contentOf(assistant)?.end ?? span.end };
    });
    return spans.filter(({ start, end }) => end > start);
  });
}

/**
 * Templates may write the answers of tools where they write the calls. Such an answer is not the
 * assistant's: its part of the stretch is what the template writes when no answer follows.
 */
function ownStretches(
  spoken: readonly Message[],
  { text, turns, roles }: RenderedMessages,
  options: RenderOptions,
): Borders["ownOf"] {
  const stretches = new Map(turns.map((turn) => [turn.message, turn]));
  let speaker: Span | undefined;
  // An answer has no stretch, or one within that of the calls.
  const hasHidden = roles.some((role, index) => {
    const own = stretches.get(index);
    if (role === "assistant") speaker = own;
    if (role !== "tool") return false;
    const isShown = own !== undefined && own.end > own.start;
    return !isShown || speaker !== undefined && own.start < speaker.end;
  });
  const places = spoken.flatMap(({ role }, index) => role === "assistant" ? [index] : []);
  return (assistant, span) => {
    const place = places[assistant]!;
    if (!hasHidden || spoken[place + 1]?.role !== "tool") return [span];
    const user = spoken.slice(0, place).findLastIndex(({ role }) => role === "user");
    for (const from of new Set([Math.max(0, user), 0])) {
      const chat = spoken.slice(from, place + 1);
      const alone = rendered(chat, { ...options, addGenerationPrompt: false });
      const own = alone?.turns.findLast(({ message }) => alone.roles[message] === "assistant");
      if (alone === null || own === undefined) continue;
      const found = withoutAnswers(span, text, alone.text.slice(own.start, own.end));
      if (found !== null) return found;
    }
    return [span];
  };
}

/** A stretch without the answers of tools in its middle, by what it is without them. */
function withoutAnswers(
  { start, end }: Span,
  text: string,
  alone: string,
): [Span, ...Span[]] | null {
  const whole = text.slice(start, end);
  let same = 0;
  while (same < whole.length && whole[same] === alone[same]) same++;
  if (same === 0) return null;
  const head = whole.slice(0, same);
  // Not within a token, and without the token that opens the answers.
  const cut = /<[^<>\s]*$/.exec(head.slice(-64))?.[0].length ??
    openedAnswer(head, whole.slice(same));
  const own = { start, end: start + same - cut };
  // Words may stand behind the answers; either text may end with a token.
  const words = (one: string) => one.trimEnd().replace(/<[^<>\s]+>$/, "").trimEnd();
  const rest = words(alone.slice(same));
  const tail = words(whole);
  if (rest === "" || !tail.endsWith(rest) || tail.length - rest.length < same) return [own];
  return [own, { start: start + tail.length - rest.length, end }];
}

/** The length of a token at the end of a text that is closed behind it, such as `<|tool_response>`. */
function openedAnswer(head: string, behind: string): number {
  const opened = /<\|?([\w:-]+)\|?>$/.exec(head.slice(-64));
  if (opened === null) return 0;
  const name = opened[1]!;
  const closes = [`<${name}|>`, `</${name}>`, `<|/${name}|>`];
  return closes.some((close) => behind.includes(close)) ? opened[0].length : 0;
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

const endToken = /(?:<\|[^<>|\s]+\|>|<｜[^<>｜\s]+｜>|<[/a-z_]+>|<[a-z_]+\|>)$/;

/** The end of the token that ends a turn, or `null`. White space behind it is the template's. */
function beforeGlue({ start, end }: Span, text: string): number | null {
  const trimmed = text.slice(start, end).trimEnd();
  return endToken.test(trimmed.slice(-64)) ? start + trimmed.length : null;
}

/** Models that end a turn with the opening of the next one sample that token too. */
function withEndTokens(spans: readonly Span[], text: string, options: RenderOptions): Span[] {
  const ends = options.specialTokens?.endTokens ?? [];
  return spans.map(({ start, end }) => {
    if (ends.some((token) => text.slice(start, end).endsWith(token))) return { start, end };
    const next = ends.find((token) => text.startsWith(token, end));
    return { start, end: end + (next?.length ?? 0) };
  });
}

/** Stretches in order; those that touch become one. */
function merged(spans: readonly Span[]): Span[] {
  const result: { start: number; end: number }[] = [];
  for (const { start, end } of spans.toSorted((a, b) => a.start - b.start)) {
    const last = result.at(-1);
    if (last !== undefined && start < last.end) last.end = Math.max(last.end, end);
    else result.push({ start, end });
  }
  return result;
}
