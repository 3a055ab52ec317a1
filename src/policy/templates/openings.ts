/** How a prompt opens an assistant's turn. */
import { ValidationError } from "../../errors.ts";
import { type Message, NO_ROLE } from "../message.ts";
import { type RenderedMessages, renderMessages, type RenderOptions } from "./render.ts";

/** Openings of the n-th assistant's turn, as a prompt ends with them; its stretch begins at `start`. */
export type Openings = (assistant: number, start: number) => readonly string[];

/** The messages of a conversation, and the places of assistants among them. */
export interface Speakers {
  /** Messages, without those of role `<none>`. */
  readonly spoken: readonly Message[];
  /** For the n-th assistant the index of its message. */
  readonly places: readonly number[];
}

/** Who speaks in a conversation. */
export function speakersOf(messages: readonly Message[]): Speakers {
  const spoken = messages.filter(({ role }) => role !== NO_ROLE);
  const places = spoken.flatMap(({ role }, index) => role === "assistant" ? [index] : []);
  return { spoken, places };
}

/**
 * How a prompt opens an assistant's turn: what the template adds when it is asked to. It may depend
 * on who spoke before, so it is asked once for each such role.
 */
export function openings(
  { spoken, places }: Speakers,
  text: string,
  options: RenderOptions,
): Openings {
  const known = new Map<string, readonly string[]>();
  return (assistant, start) => {
    const place = places[assistant]!;
    const before = spoken[place - 1]?.role ?? "";
    let found = known.get(before);
    if (found === undefined) {
      const ahead = spoken.slice(0, place);
      const after = variants(openingAfter(ahead, options));
      const usual = before === "user" ? [] : variants(usualOpening(options));
      const others = [...after, ...usual].filter((opening) => opening !== "");
      const within = promptWithin(ahead, { text, start, options });
      const none = after.filter((one) => one === "");
      // What a prompt writes behind its first line may not be in the history: "Here are my steps:".
      others.push(...others.map(firstLine).filter((line) => line !== ""));
      // A history may open a turn that its prompt did not open: nobody sampled that opening.
      found = within === null
        ? [...others, ...none]
        : within === ""
        ? [...others, within]
        : [...variants(within), ...others];
      known.set(before, found);
    }
    // A template may write the name of who speaks where a prompt has the role.
    const { name } = spoken[place]!;
    if (typeof name !== "string") return found;
    const named = (opening: string) => {
      const at = opening.lastIndexOf("assistant");
      return at < 0
        ? opening
        : opening.slice(0, at) + name + opening.slice(at + "assistant".length);
    };
    return [...found, ...found.map(named)];
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
export function rendered(
  messages: readonly Message[],
  options: RenderOptions,
): RenderedMessages | null {
  if (messages.length === 0) return null;
  try {
    return renderMessages(messages, { ...options, continueFinalMessage: false });
  } catch (error) {
    if (error instanceof ValidationError) return null;
    throw error;
  }
}

/** The opening behind a user, whatever a template wants of his words. */
function usualOpening(options: RenderOptions): string | null {
  const contents = ["", "x", [{ type: "text", text: "x" }]];
  for (const content of contents) {
    const opening = openingAfter([{ role: "user", content }], options);
    if (opening !== null) return opening;
  }
  return null;
}

function openingAfter(before: readonly Message[], options: RenderOptions): string | null {
  if (before.length === 0) return usualOpening(options);
  const closed = rendered(before, { ...options, addGenerationPrompt: false })?.text;
  const open = rendered(before, { ...options, addGenerationPrompt: true })?.text;
  if (closed === undefined || open === undefined) return null;
  let same = 0;
  while (same < closed.length && closed[same] === open[same]) same++;
  // What closes a text may begin as what opens a turn does.
  return open.slice(same - startedToken(open, same));
}

/** How many characters before a place belong to a token that goes on behind it. */
export function startedToken(text: string, place: number): number {
  const started = /<[^<>\s]*$/.exec(text.slice(Math.max(0, place - 64), place))?.[0] ?? "";
  return /^[^<>\s]*>/.test(text.slice(place, place + 64)) ? started.length : 0;
}

/** Where a template opens the reasoning too: an earlier turn may stand there without it. */
const reasoning =
  /<\/?think(?::\w+)?>|<seed:think>|\[THINK\]|<\|channel\|>|<\|START_THINKING\|>|<\|channel>|<mm:think>/;

/** The first line of an opening of more lines, or nothing. */
function firstLine(opening: string): string {
  return /^\s*(\S[^\n]*\n)[^]*\S/.exec(opening)?.[1] ?? "";
}

/** The opening as it is, and without the reasoning that it opens or closes. */
function variants(opening: string | null): readonly string[] {
  if (opening === null) return [];
  const at = opening.search(reasoning);
  const plain = at < 0 ? opening : opening.slice(0, at);
  return [...new Set([opening, plain, plain.trimEnd()])];
}
