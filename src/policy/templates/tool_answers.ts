/** Answers of tools that a template writes where it writes the calls. */
import { type Openings, rendered, type Speakers, startedToken } from "./openings.ts";
import type { RenderedMessages, RenderOptions } from "./render.ts";
import type { Span } from "./spans.ts";

/** What of a stretch of the n-th assistant is its own: others' messages may stand in it. */
export type OwnStretches = (assistant: number, span: Span) => readonly [Span, ...Span[]];

/**
 * Templates may write the answers of tools where they write the calls. Such an answer is not the
 * assistant's: its part of the stretch is what the template writes where no answer follows. That is
 * asked of the whole conversation without any answer, for a template may write an earlier turn in
 * another way than the last one, then of the conversation up to this turn.
 */
export function ownStretches(
  { spoken, places }: Speakers,
  { text, turns, roles }: RenderedMessages,
  { openingOf, ...options }: RenderOptions & { readonly openingOf: Openings },
): OwnStretches {
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
  const closed = { ...options, addGenerationPrompt: false };
  let unanswered: ReadonlyMap<number, string> | undefined;
  return (assistant, span) => {
    const place = places[assistant]!;
    if (!hasHidden || spoken[place + 1]?.role !== "tool") return [span];
    unanswered ??= assistantsOf(rendered(spoken.filter(({ role }) => role !== "tool"), closed));
    const openings = openingOf(assistant, span.start);
    const among = unanswered.get(assistant);
    const found = among === undefined
      ? null
      : withoutAnswers(span, text, { alone: among, openings });
    if (found !== null) return found;
    const user = spoken.slice(0, place).findLastIndex(({ role }) => role === "user");
    for (const from of new Set([Math.max(0, user), 0])) {
      const alone = [...assistantsOf(rendered(spoken.slice(from, place + 1), closed)).values()];
      const own = alone.at(-1);
      const found = own === undefined ? null : withoutAnswers(span, text, { alone: own, openings });
      if (found !== null) return found;
    }
    return [span];
  };
}

/** What a template wrote for each assistant, by their numbers. */
function assistantsOf(chat: RenderedMessages | null): ReadonlyMap<number, string> {
  const texts = new Map<number, string>();
  if (chat === null) return texts;
  const numbers = new Map<number, number>();
  chat.roles.forEach((role, index) => {
    if (role === "assistant") numbers.set(index, numbers.size);
  });
  for (const { message, start, end } of chat.turns) {
    const number = numbers.get(message);
    if (number !== undefined && !texts.has(number)) texts.set(number, chat.text.slice(start, end));
  }
  return texts;
}

/** A stretch without the answers of tools in its middle, by what it is without them. */
function withoutAnswers(
  { start, end }: Span,
  text: string,
  { alone, openings }: { alone: string; openings: readonly string[] },
): [Span, ...Span[]] | null {
  const whole = text.slice(start, end);
  const from = lengthOfOpening(whole, openings);
  const bare = alone.slice(lengthOfOpening(alone, openings));
  let same = 0;
  while (from + same < whole.length && whole[from + same] === bare[same]) same++;
  if (same === 0) return null;
  const head = whole.slice(0, from + same);
  // Not within a token, and without the token that opens the answers.
  const cut = startedToken(whole, head.length) || openedAnswer(head, whole.slice(head.length));
  const own = { start, end: start + head.length - cut };
  const behind = whole.slice(head.length - cut);
  const rests = withoutTokens(bare.slice(same - cut));
  if (rests.includes("") || rests.some((one) => openedAnswer(one, behind) === one.length)) {
    return [own];
  }
  // Words may stand behind the answers; either text may end with a token.
  for (const rest of rests) {
    const tail = withoutTokens(behind).find((one) => one.endsWith(rest));
    if (tail === undefined) continue;
    return [own, { start: own.end + tail.length - rest.length, end }];
  }
  // Another text altogether: it does not tell what is whose.
  return null;
}

function lengthOfOpening(text: string, openings: readonly string[]): number {
  return openings.find((opening) => text.startsWith(opening))?.length ?? 0;
}

/** A text without white space at its end, and without up to two tokens there. */
function withoutTokens(text: string): string[] {
  const texts = [text.trimEnd()];
  for (let left = 2; left > 0; left--) {
    const shorter = texts.at(-1)!.replace(/<[^<>\s]+>$/, "").trimEnd();
    if (shorter !== texts.at(-1)) texts.push(shorter);
  }
  return texts;
}

/** The length of a token at the end of a text that is closed behind it, such as `<|tool_response>`. */
function openedAnswer(head: string, behind: string): number {
  const opened = /<\|?([\w:-]+)\|?>$/.exec(head.slice(-64));
  if (opened === null) return 0;
  const name = opened[1]!;
  const closes = [`<${name}|>`, `</${name}>`, `<|/${name}|>`];
  return closes.some((close) => behind.includes(close)) ? opened[0].length : 0;
}
