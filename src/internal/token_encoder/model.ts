/** What all models of a `tokenizer.json` have. */
import { ValidationError } from "../../errors.ts";
import { isRecord } from "../json.ts";
import { NotKnown } from "./not_known.ts";

/** Turns a word into ids. */
export interface WordModel {
  /** Ids by their tokens. */
  readonly vocabulary: ReadonlyMap<string, number>;
  /** Ids of a word, which belong to whoever made them: they are not to be changed. */
  encode(word: string): ArrayLike<number>;
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
