/** Models with a list of words: WordLevel, and WordPiece as BERT has it. */
import { ValidationError } from "../../errors.ts";
import { asByteCharacters } from "./characters.ts";
import { vocabularyIn, type WordModel } from "./model.ts";

/** Whole words only. */
export class WordLevel implements WordModel {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly #unknown: string;
  readonly #isBytes: boolean;

  /** Reads the model; `isBytes` where words are to be written as bytes in GPT-2's characters first. */
  constructor(model: Readonly<Record<string, unknown>>, isBytes: boolean) {
    this.vocabulary = vocabularyIn(model.vocab);
    this.#unknown = String(model.unk_token ?? "<unk>");
    this.#isBytes = isBytes;
  }

  encode(word: string): readonly number[] {
    const written = this.#isBytes ? asByteCharacters(word) : word;
    const id = this.vocabulary.get(written) ?? this.vocabulary.get(this.#unknown);
    if (id === undefined) throw withoutUnknown(word);
    return [id];
  }
}

/** The longest pieces of a word, from left to right. */
export class WordPiece implements WordModel {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly #unknown: string;
  readonly #prefix: string;
  readonly #maxCharacters: number;
  readonly #longest: number;
  readonly #isBytes: boolean;

  /** Reads the model; `isBytes` where words are to be written as bytes in GPT-2's characters first. */
  constructor(model: Readonly<Record<string, unknown>>, isBytes: boolean) {
    this.vocabulary = vocabularyIn(model.vocab);
    this.#unknown = String(model.unk_token ?? "[UNK]");
    this.#prefix = String(model.continuing_subword_prefix ?? "##");
    this.#maxCharacters = Number(model.max_input_chars_per_word ?? 100);
    let longest = 0;
    for (const token of this.vocabulary.keys()) longest = Math.max(longest, token.length);
    this.#longest = longest;
    this.#isBytes = isBytes;
  }

  encode(given: string): readonly number[] {
    const word = this.#isBytes ? asByteCharacters(given) : given;
    const ids: number[] = [];
    const isTooLong = word.length > this.#maxCharacters && [...word].length > this.#maxCharacters;
    for (let at = 0; !isTooLong && at < word.length;) {
      const prefix = at > 0 ? this.#prefix : "";
      let end = Math.min(word.length, at + this.#longest);
      let id: number | undefined;
      for (; end > at; end--) {
        id = this.vocabulary.get(prefix + word.slice(at, end));
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.#unknownId(given)];
      ids.push(id);
      at = end;
    }
    return isTooLong ? [this.#unknownId(given)] : ids;
  }

  #unknownId(word: string): number {
    const id = this.vocabulary.get(this.#unknown);
    if (id === undefined) throw withoutUnknown(word);
    return id;
  }
}

function withoutUnknown(word: string): ValidationError {
  return new ValidationError(
    `The tokenizer has no token for ${
      JSON.stringify(word).slice(0, 100)
    }, and its unk_token is not ` +
      "in its vocabulary",
  );
}
