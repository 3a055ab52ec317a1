import { type Message, textOf } from "../message.ts";
import { renderChat, type RenderOptions } from "./render.ts";

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

// Characters of the private use area mark the borders: no template trims them or looks for them.
const START = "\uE0F0\uE0F1\uE0F0";
const END = "\uE0F1\uE0F0\uE0F1";

/**
 * Renders a conversation and finds what assistants wrote: by the template's `{% generation %}` blocks
 * where it has them, else by the contents of the assistants' messages.
 *
 * Either way the conversation is rendered a second time with markers around those places, and the
 * result is used only if the text without markers is the text that the model sees.
 */
export function renderWithSpans(
  messages: readonly Message[],
  options: RenderOptions,
): RenderedChat {
  const text = renderChat(messages, options);
  if (!messages.some(({ role }) => role === "assistant")) return { text, spans: [] };
  const marked = withMarkedBlocks(options.template);
  const spans =
    (marked === null
      ? null
      : spansIn(() => renderChat(messages, { ...options, template: marked }), text)) ??
      spansIn(() => renderChat(messages.map(withMarkers), options), text) ??
      searchedSpans(messages, text);
  return { text, spans };
}

function withMarkedBlocks(template: string): string | null {
  const marked = template.replace(
    /\{%([-+]?)\s*(end)?generation\s*[-+]?%\}/g,
    (block, dash: string, end: string | undefined) =>
      `{{${dash === "-" ? "-" : ""} "${end ? END : START}" }}${block}`,
  );
  return marked === template ? null : marked;
}

function withMarkers(message: Message): Message {
  if (message.role !== "assistant" || typeof message.content !== "string") return message;
  return { ...message, content: START + message.content + END };
}

/** The marked stretches, or `null` when the markers changed what was rendered. */
function spansIn(render: () => string, expected: string): Span[] | null {
  const parts = renderedParts(render);
  if (parts === null || parts.map(({ text }) => text).join("") !== expected) return null;
  const spans: Span[] = [];
  let at = 0;
  for (const { text, isInside } of parts) {
    if (isInside && text !== "") spans.push({ start: at, end: at + text.length });
    at += text.length;
  }
  return spans;
}

function renderedParts(render: () => string): { text: string; isInside: boolean }[] | null {
  let marked: string;
  try {
    marked = render();
  } catch {
    // A template may look into contents; the next way does not change them.
    return null;
  }
  return marked.split(START).flatMap((piece, index) => {
    const [inside = "", ...outside] = piece.split(END);
    if (index === 0) return [{ text: piece.replaceAll(END, ""), isInside: false }];
    return [{ text: inside, isInside: true }, { text: outside.join(""), isInside: false }];
  });
}

/** Contents looked up one after the other: for templates that rewrite what they are given. */
function searchedSpans(messages: readonly Message[], text: string): Span[] {
  const spans: Span[] = [];
  let from = 0;
  for (const message of messages) {
    const content = textOf(message).trim();
    if (content === "") continue;
    const start = text.indexOf(content, from);
    if (start < 0) continue;
    from = start + content.length;
    if (message.role === "assistant") spans.push({ start, end: from });
  }
  return spans;
}
