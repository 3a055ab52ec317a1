import { ValidationError } from "../errors.ts";
import { encodeWithMask } from "./assistant_mask.ts";
import type { ChatHistory } from "./chat_history.ts";
import { type ChatTemplateOptions, History } from "./history.ts";
import { Masks } from "./masks.ts";
import { chooseTemplate, hasTools, type TemplateChoice } from "./templates/registry.ts";
import { renderWithSpans } from "./templates/spans.ts";
import { Text } from "./text.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { Tokens } from "./tokens.ts";

/** Options of conversions that need a tokenizer. */
export interface ConversionOptions extends ChatTemplateOptions {
  /** Turns text into ids and back. */
  readonly tokenizer: Tokenizer;
  /** Cancels a tokenizer that asks a server. */
  readonly signal?: AbortSignal | undefined;
}

/** Tokens of conversations and which of them assistants wrote. */
export interface TokenizedHistory {
  /** The ids, in the column `full`. */
  readonly tokens: Tokens;
  /** Attention and assistant masks over them. */
  readonly masks: Masks;
}

/**
 * Renders and tokenises conversations, and marks what assistants wrote, in all turns.
 *
 * @throws {TokenDriftError} The tokenizer cannot give the text back, so no mask would be exact.
 */
export async function historyToTokens(
  history: History,
  options: ConversionOptions,
): Promise<TokenizedHistory> {
  const { template } = chooseTemplate({ ...options, hasTools: hasTools(options.variables) });
  const rows = await Promise.all(history.chats.map((chat) => {
    const { text, spans } = renderWithSpans(chat, {
      template,
      specialTokens: options.tokenizer.specialTokens,
      addGenerationPrompt: options.addGenerationPrompt ?? false,
      variables: options.variables,
    });
    return encodeWithMask(text, spans, options);
  }));
  const full = rows.map(({ ids }) => ids);
  return {
    tokens: new Tokens({ full }, history.batchShape),
    masks: new Masks({
      allAttentionMask: full.map((ids) => new Uint8Array(ids.length).fill(1)),
      allAssistantMask: rows.map(({ mask }) => mask),
    }, history.batchShape),
  };
}

/**
 * Renders prompt and full history; the response is what the full text has beyond the prompt.
 *
 * @throws {ValidationError} The full text does not start with the prompt.
 */
export function chatToText(chat: ChatHistory, options: ChatTemplateOptions): Text {
  const prompt = chat.prompt?.applyChatTemplate({ ...options, addGenerationPrompt: true });
  const full = chat.full?.applyChatTemplate({ ...options, addGenerationPrompt: false });
  const response = prompt && full?.map((text, row) => {
    if (text.startsWith(prompt[row]!)) return text.slice(prompt[row]!.length);
    throw new ValidationError(
      `Full text does not start with prompt text in row ${row}. ` +
        `Prompt: ${JSON.stringify(prompt[row]!.slice(0, 80))}, ` +
        `full: ${JSON.stringify(text.slice(0, 80))}`,
    );
  });
  return new Text({ prompt, response, full }, chat.batchShape);
}

/** Renders and tokenises; the response is what the full ids have beyond the prompt's. */
export async function chatToTokens(
  chat: ChatHistory,
  options: ConversionOptions,
): Promise<Tokens> {
  return await textToTokens(chatToText(chat, options), options);
}

/**
 * Tokenises texts, without adding special tokens. With prompt and full the response is
 * `full.slice(prompt.length)`.
 *
 * @throws {ValidationError} The ids of a full text do not start with those of its prompt.
 */
export async function textToTokens(
  text: Text,
  options: { tokenizer: Tokenizer; signal?: AbortSignal | undefined },
): Promise<Tokens> {
  const encode = async (texts: readonly string[] | null) =>
    texts && await Promise.all(
      texts.map((item) => options.tokenizer.encode(item, { signal: options.signal })),
    );
  const prompt = await encode(text.prompt);
  const full = await encode(text.full);
  if (!prompt || !full) return new Tokens({ prompt, full }, text.batchShape);
  const response = full.map((ids, row) => {
    const length = prompt[row]!.length;
    if (prompt[row]!.every((id, index) => ids[index] === id)) return ids.slice(length);
    throw new ValidationError(
      `Row ${row}: the ids of the full text do not start with those of the prompt, because a token ` +
        "spans the border. Keep the ids that the server returned instead of tokenising text",
    );
  });
  return new Tokens({ prompt, response, full }, text.batchShape);
}

/**
 * Decodes ids, special tokens included.
 *
 * @throws {ValidationError} The tokens are padded.
 */
export async function tokensToText(
  tokens: Tokens,
  options: { tokenizer: Tokenizer; signal?: AbortSignal | undefined },
): Promise<Text> {
  if (tokens.isPadded) throw new ValidationError("Padded tokens have no text: call unpad() first");
  const decode = async (rows: readonly Int32Array[] | null) =>
    rows && await Promise.all(
      rows.map((ids) => options.tokenizer.decode(ids, { signal: options.signal })),
    );
  return new Text({
    prompt: await decode(tokens.prompt),
    response: await decode(tokens.response),
    full: await decode(tokens.full),
  }, tokens.batchShape);
}

/** Parses full texts into conversations. */
export function textToHistory(text: Text, options: TemplateChoice): History {
  return History.fromText(text.get("full"), options).reshape(text.batchShape);
}

/** Decodes and parses full ids into conversations. */
export async function tokensToHistory(
  tokens: Tokens,
  options: ConversionOptions,
): Promise<History> {
  return textToHistory(await tokensToText(tokens, options), options);
}

/**
 * The messages that each full text has beyond its prompt: an assistant's answer, or several turns.
 * Conversations with fewer are filled up with `<none>`; a text that ends with its prompt gives one
 * empty assistant message.
 */
export function extractResponses(
  fullTexts: readonly string[],
  prompt: History,
  options: TemplateChoice,
): History {
  const chats = History.fromText(fullTexts, options).chats.map((chat, row) => {
    const added = chat.slice(prompt.chats[row]!.length);
    return added.length > 0 ? added : [{ role: "assistant", content: "", isComplete: false }];
  });
  return History.fromRows(chats, prompt.batchShape).padMessages();
}
