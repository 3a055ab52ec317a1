/** What all models of a `tokenizer.json` have. */
import { ValidationError } from "../../errors.ts";
import { isRecord } from "../json.ts";
import type { Steps } from "../work_turns.ts";
import { NotKnown } from "./not_known.ts";

/** Turns a word into ids. */
export interface WordModel {
  /** Ids by their tokens. */
  readonly vocabulary: ReadonlyMap<string, number>;
  /** Ids of a word, which belong to whoever made them: they are not to be changed. */
  encode(word: string): ArrayLike<number>;
  /** The same for a long word in steps, where it takes time for each of its characters. */
  steps?(word: string): Steps<ArrayLike<number>>;
}

/**
 * A vocabulary as most models have it.
 *
 * @throws {ValidationError} It is none, or a token has no id.
 */
export function vocabularyIn(vocab: unknown): ReadonlyMap<string, number> {
  if (!isRecord(vocab)) throw new NotKnown("a model without vocab");
  const vocabulary = new Map<string, number>();
  for (const token of Object.keys(vocab)) {
    const id = vocab[token];
    if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0 || id >= 2 ** 31) {
      throw new ValidationError(`its token ${JSON.stringify(token).slice(0, 100)} has no id`);
    }
    vocabulary.set(token, id);
  }
  return vocabulary;
}

/** For each byte the id of its token, `<0x00>` and so on. */
export type ByteIds = readonly (number | undefined)[];

/** The ids of the tokens of bytes, where a model may write a character so; else `null`. */
export function byteIdsIn(
  model: Readonly<Record<string, unknown>>,
  vocabulary: ReadonlyMap<string, number>,
): ByteIds | null {
  if (model.byte_fallback !== true) return null;
  return Array.from({ length: 256 }, (_, byte) => {
    const digits = byte.toString(16).toUpperCase().padStart(2, "0");
    return vocabulary.get(`<0x${digits}>`);
  });
}

const utf8 = new TextEncoder();

/** The ids of the bytes of a text; `null` where one has none. */
export function idsOfBytes(text: string, byteIds: ByteIds | null): readonly number[] | null {
  if (byteIds === null) return null;
  const ids = Array.from(utf8.encode(text), (byte) => byteIds[byte]);
  return ids.includes(undefined) ? null : ids as number[];
}
