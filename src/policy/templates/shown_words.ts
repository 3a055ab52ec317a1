/** Where the words of messages stand in a rendered conversation, found by rendering it once more with signs. */
import { ValidationError } from "../../errors.ts";
import { type ContentPart, type Message, NO_ROLE } from "../message.ts";
import { renderMessages, type RenderOptions } from "./render.ts";

/** A word of a message and where the template shows it. */
export interface ShownWord {
  /** The message, counted without those of role `<none>`. */
  readonly message: number;
  /** Whether an assistant says it. */
  readonly isAssistant: boolean;
  /** Whether it is the name of a tool that is called. */
  readonly isCall: boolean;
  /** Whether templates may leave it out: thoughts. */
  readonly mayBeLeftOut: boolean;
  /** Where characters of it stand, in UTF-16 units of the text. */
  readonly places: readonly number[];
}

/** Kinds of words; where signs in one change what a template writes, the others are still found. */
const kinds = ["assistant", "thoughts", "calls", "others"] as const;
type Kind = (typeof kinds)[number];

// Characters of the private use area: no template trims them or looks for them.
const BEGIN = "\uE0F2";
const END = "\uE0F3";
const sign = new RegExp(`${BEGIN}([\\uE0E0-\\uE0E9]+)${END}`, "g");

interface Word {
  readonly message: number;
  readonly kind: Kind;
  readonly mayBeLeftOut: boolean;
}

/**
 * Finds one word of each content, each thought and each call. Words that cannot be told, because a
 * sign in them changes what the template writes, are not among them.
 */
export function shownWords(
  messages: readonly Message[],
  options: RenderOptions,
  expected: string,
): ShownWord[] {
  const spoken = messages.filter(({ role }) => role !== NO_ROLE);
  const together = wordsOf(spoken, kinds, options, expected);
  return together ?? kinds.flatMap((kind) => wordsOf(spoken, [kind], options, expected) ?? []);
}

function wordsOf(
  spoken: readonly Message[],
  wanted: readonly Kind[],
  options: RenderOptions,
  expected: string,
): ShownWord[] | null {
  const words: Word[] = [];
  const signed = spoken.map((message, index) =>
    withSigns(message, (kind, text) => {
      const place = wanted.includes(kind) ? placeIn(text) : null;
      if (place === null) return text;
      const mayBeLeftOut = kind === "thoughts" || place.isThought;
      words.push({ message: index, kind, mayBeLeftOut });
      return text.slice(0, place.at) + signOf(words.length - 1) + text.slice(place.at);
    })
  );
  if (words.length === 0) return [];
  let text: string;
  try {
    text = renderMessages(signed, options).text;
  } catch (error) {
    if (error instanceof ValidationError) return null;
    throw error;
  }
  const places = words.map((): number[] => []);
  let plain = "";
  let last = 0;
  for (const found of text.matchAll(sign)) {
    plain += text.slice(last, found.index);
    last = found.index + found[0].length;
    // A sign follows a character of its word.
    places[numberOf(found[1]!)]?.push(plain.length - 1);
  }
  if (plain + text.slice(last) !== expected) return null;
  return words.map(({ message, kind, mayBeLeftOut }, index) => ({
    message,
    isAssistant: kind !== "others",
    isCall: kind === "calls",
    mayBeLeftOut,
    places: places[index]!,
  }));
}

function signOf(index: number): string {
  const digits = [...String(index)].map((digit) => String.fromCharCode(0xE0E0 + Number(digit)));
  return BEGIN + digits.join("") + END;
}

function numberOf(digits: string): number {
  return Number([...digits].map((digit) => digit.charCodeAt(0) - 0xE0E0).join(""));
}

/** A message with whatever `sign` makes of its texts. */
function withSigns(message: Message, sign: (kind: Kind, text: string) => string): Message {
  const signed: Record<string, unknown> = { ...message };
  const isAssistant = message.role === "assistant";
  const { content } = message;
  const kind = isAssistant ? "assistant" : "others";
  if (typeof content === "string") signed.content = sign(kind, content);
  else if (Array.isArray(content)) signed.content = signedParts(content, kind, sign);
  if (!isAssistant) return signed as unknown as Message;
  for (const name of ["reasoning_content", "reasoningContent", "reasoning", "thinking"]) {
    const thoughts = message[name];
    if (typeof thoughts === "string") signed[name] = sign("thoughts", thoughts);
  }
  for (const name of ["tool_calls", "toolCalls"] as const) {
    const calls = message[name];
    if (!Array.isArray(calls)) continue;
    signed[name] = calls.map((call) => {
      const described = call.function as { name?: unknown } | undefined;
      const called = described ?? call;
      if (typeof called?.name !== "string") return call;
      const named = { ...called, name: sign("calls", called.name) };
      return described === undefined ? named : { ...call, function: named };
    });
  }
  return signed as unknown as Message;
}

function signedParts(
  parts: readonly ContentPart[],
  kind: Kind,
  sign: (kind: Kind, text: string) => string,
): readonly ContentPart[] {
  const at = parts.findLastIndex(({ text }) => typeof text === "string" && text.trim() !== "");
  if (at < 0) return parts;
  return parts.with(at, { ...parts[at]!, text: sign(kind, parts[at]!.text!) });
}

const marks = /<[^<>\n]{0,60}>|\[[A-Z_/]{2,30}\]/g;
const thoughts = /<think>[^]*?(?:<\/think>|$)|^[^]*<\/think>|<\|channel>[^]*?(?:<channel\|>|$)/g;

/** A place in the last word of a text that is no mark, and whether it is within thoughts. */
function placeIn(text: string): { at: number; isThought: boolean } | null {
  const blank = (found: string) => " ".repeat(found.length);
  const unmarked = text.replace(marks, blank);
  const said = lastWord(text.replace(thoughts, blank).replace(marks, blank));
  if (said !== null) return { at: said, isThought: false };
  const thought = lastWord(unmarked);
  return thought === null ? null : { at: thought, isThought: true };
}

/** A place in the middle of the last word, or behind the last sign where there is none. */
function lastWord(text: string): number | null {
  const tail = text.trimEnd();
  const word = /[\p{L}\p{N}]{2}(?=[^\p{L}\p{N}]*$)/u.exec(tail.slice(-200));
  if (word !== null) return Math.max(0, tail.length - 200) + word.index + [...word[0]][0]!.length;
  return tail === "" ? null : tail.length;
}
