import { ValidationError } from "../../errors.ts";
import type { Logger } from "../../internal/logger.ts";
import type { TurnPrompt } from "../../rollout/turn.ts";
import { type BatchShape, describe, flattenRows, type Nested } from "../batch_shape.ts";
import { ChatHistory, type ChatHistoryParts } from "../chat_history.ts";
import { History } from "../history.ts";
import type { LogProbs } from "../log_probs.ts";
import { Masks } from "../masks.ts";
import { isMessage, type Message } from "../message.ts";
import { Text } from "../text.ts";
import { Tokens } from "../tokens.ts";

/** Token ids of one row, in any list form. */
export type Ids = Int32Array | readonly number[];

/** Parts of an input, one of which is read: `prompt` to generate, `full` to score. */
export interface InputParts<Row> {
  /** What comes before the response. */
  readonly prompt?: Nested<Row> | undefined;
  /** Prompt and response. */
  readonly full?: Nested<Row> | undefined;
}

/**
 * What a wrapper is called with. Each entry may be one of the containers, an object with its parts,
 * or the plain values themselves; nested lists give the shape of the batch.
 */
export interface PolicyInput {
  /** Conversations: a list of messages, a list of such lists, or a container. */
  readonly history?: ChatHistory | ChatHistoryParts | History | Nested<Message> | undefined;
  /** Texts. */
  readonly text?: Text | Nested<string> | InputParts<string> | undefined;
  /** Token ids. */
  readonly tokens?: Tokens | Nested<Ids> | InputParts<Ids> | undefined;
  /** Masks of the tokens; an attention mask hides pads. */
  readonly masks?:
    | Masks
    | { readonly allAttentionMask?: Nested<Uint8Array | readonly (number | boolean)[]> }
    | undefined;
  /** Log-probabilities of earlier turns. */
  readonly logProbs?: LogProbs | undefined;
  /** What `nextTurn()` prepared, as a flat list; taken for the conversations it was made for. */
  readonly prompts?: readonly TurnPrompt[] | undefined;
  /** Send `tokens.prompt` as it is, without comparing it with the text. */
  readonly keepTokens?: boolean | undefined;
  /** Anything under other keys. */
  readonly [key: string]: unknown;
}

/** Rows that were read from an input. */
export interface ReadRows<Row> {
  /** The flat list of rows. */
  readonly rows: readonly Row[];
  /** Shape of the batch. */
  readonly batchShape: BatchShape;
}

/** Follows a path into the input; a plain value in place of a container stands for its last part. */
export function valueAt(
  input: PolicyInput,
  path: readonly string[],
): { value: unknown; container: unknown } {
  let container: unknown = input;
  let value: unknown = input;
  for (const key of path) {
    if (isPlainValue(value)) return { value, container };
    container = value;
    value = (value as Record<string, unknown>)[key];
    if (value === undefined || value === null) throw missing(input, path);
  }
  return { value, container };
}

/** Reads conversations. */
export function readHistory(
  input: PolicyInput,
  path: readonly string[],
  logger: Logger,
): ReadRows<readonly Message[]> {
  const { value } = valueAt(input, path);
  // What a row holds is looked at row by row: a wrong message is the error of its row.
  if (Array.isArray(value)) {
    const { rows, batchShape } = flattenRows(value, isConversation);
    return { rows: rows.map((chat) => [...chat]), batchShape };
  }
  const history = toHistory(value, path);
  if (history.rank > 0) return { rows: history.chats, batchShape: history.batchShape };
  const { prompt } = new ChatHistory({ prompt: history }, { batchShape: [], logger });
  return { rows: prompt!.chats, batchShape: [] };
}

function toHistory(value: unknown, path: readonly string[]): History {
  if (value instanceof History) return value;
  if (isMessage(value)) return History.fromChats(value);
  throw new ValidationError(
    `Expected History object at ${path.join(".")}, got ${describe(value)}: give a History or a ` +
      "list of messages",
  );
}

/** A list in which somebody speaks. An empty one is a batch of no conversations. */
function isConversation(value: unknown): value is readonly Message[] {
  return Array.isArray(value) && value.some((item) => {
    const { role } = (item ?? {}) as { role?: unknown };
    return typeof role === "string";
  });
}

/** Reads texts. */
export function readTexts(input: PolicyInput, path: readonly string[]): ReadRows<string> {
  const { value, container } = valueAt(input, path);
  if (container instanceof Text && Array.isArray(value)) {
    return { rows: value as string[], batchShape: container.batchShape };
  }
  return flattenRows(value, (item) => typeof item === "string");
}

/** Reads ids without their pads: those that the container knows of, or that an attention mask hides. */
export function readIds(
  input: PolicyInput,
  path: readonly string[],
  masksKey: string,
): ReadRows<Int32Array> {
  const { value, container } = valueAt(input, path);
  if (container instanceof Tokens) {
    const key = path.at(-1) as "prompt" | "response" | "full";
    return { rows: container.unpad().get(key), batchShape: container.batchShape };
  }
  const { rows, batchShape } = flattenRows(value, isIds);
  const attention = attentionRows(input[masksKey], rows.length);
  const ids = rows.map((row, index) => {
    const all = toIds(row, index);
    const mask = attention?.[index];
    if (mask === undefined) return all;
    if (mask.length !== all.length) {
      throw new ValidationError(
        `Row ${index} has ${all.length} ids, but its attention mask ${mask.length} values`,
      );
    }
    return all.filter((_, at) => Boolean(mask[at]));
  });
  return { rows: ids, batchShape };
}

/** Ids given beside a text or a conversation, by column; `null` where the input has none. */
export function readGivenIds(
  input: PolicyInput,
  key: string,
  masksKey: string,
): { prompt: readonly Int32Array[] | null; full: readonly Int32Array[] | null } {
  const container = input[key];
  if (container === undefined || container === null) return { prompt: null, full: null };
  if (container instanceof Tokens) {
    const { prompt, full } = container.unpad();
    return { prompt, full };
  }
  const read = (column: string) => {
    const isPlain = isPlainValue(container);
    if (isPlain && column !== "prompt") return null;
    if (!isPlain && (container as Record<string, unknown>)[column] === undefined) return null;
    return readIds(input, [key, column], masksKey).rows;
  };
  return { prompt: read("prompt"), full: read("full") };
}

function isPlainValue(value: unknown): boolean {
  return typeof value !== "object" || Array.isArray(value) || ArrayBuffer.isView(value) ||
    value instanceof History || isMessage(value);
}

function isIds(value: unknown): value is ArrayLike<number | bigint> {
  if (ArrayBuffer.isView(value)) return true;
  return Array.isArray(value) && typeof value[0] === "number";
}

function toIds(row: ArrayLike<number | bigint>, index: number): Int32Array {
  const ids = Array.from(row, Number);
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0);
  if (wrong >= 0) {
    throw new ValidationError(
      `tokens[${index}][${wrong}] must be a token id, an integer of at least 0, got ${ids[wrong]}`,
    );
  }
  return row instanceof Int32Array ? row : Int32Array.from(ids);
}

function attentionRows(masks: unknown, count: number): readonly ArrayLike<unknown>[] | null {
  if (masks === undefined || masks === null) return null;
  const given = (masks as { allAttentionMask?: unknown }).allAttentionMask;
  if (given === undefined || given === null) return null;
  const isMask = (value: unknown): value is ArrayLike<unknown> =>
    ArrayBuffer.isView(value) || (Array.isArray(value) && !Array.isArray(value[0]));
  const { rows } = masks instanceof Masks
    ? { rows: masks.get("allAttentionMask") }
    : flattenRows(given, isMask);
  if (rows.length === count) return rows;
  throw new ValidationError(`There are ${count} rows of tokens, but ${rows.length} of masks`);
}

function missing(input: PolicyInput, path: readonly string[]): ValidationError {
  const keys = Object.keys(input);
  return new ValidationError(
    `The input has no "${path.join(".")}"; it has ${keys.length > 0 ? keys.join(", ") : "nothing"}`,
  );
}
