/** Unigram, as sentencepiece has it: of all ways to cut a word the likeliest. */
import { ValidationError } from "../../errors.ts";
import { atOnce, type Steps } from "../work_turns.ts";
import { byteCharactersInSteps } from "./characters.ts";
import { type ByteIds, byteIdsIn, idsOfBytes, type WordModel } from "./model.ts";

/** How much less likely an unknown character is than the least likely token. */
const UNKNOWN_PENALTY = 10;
/** Characters that are looked at in one step. */
const CHARACTERS_A_STEP = 1024;

/** The model of a `tokenizer.json` whose type is `Unigram`. */
export class Unigram implements WordModel {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly #scores: Float64Array;
  readonly #unknown: number | null;
  readonly #unknownScore: number;
  /** Lengths of the tokens that begin with a unit of UTF-16, the shortest first. */
  readonly #lengths = new Map<string, readonly number[]>();
  /** Ids of the tokens of bytes, where a character may be written so. */
  readonly #bytes: ByteIds | null;
  readonly #isBytes: boolean;

  /** Reads the model; `isBytes` where words are to be written as bytes in GPT-2's characters first. */
  constructor(model: Readonly<Record<string, unknown>>, isBytes: boolean) {
    const { vocab, unk_id: unknown } = model;
    if (!Array.isArray(vocab)) throw new ValidationError("its vocab must be a list");
    const vocabulary = new Map<string, number>();
    const lengths = new Map<string, Set<number>>();
    this.#scores = new Float64Array(vocab.length);
    let least = Infinity;
    vocab.forEach((entry, id) => {
      const [token, score] = Array.isArray(entry) ? entry : [];
      if (typeof token !== "string" || typeof score !== "number") {
        throw new ValidationError(
          `its vocab must be pairs of a token and a score, not so at ${id}`,
        );
      }
      vocabulary.set(token, id);
      this.#scores[id] = score;
      least = Math.min(least, score);
      if (token === "") return;
      const known = lengths.get(token[0]!) ?? new Set();
      lengths.set(token[0]!, known.add(token.length));
    });
    for (const [start, known] of lengths) {
      this.#lengths.set(start, [...known].sort((a, b) => a - b));
    }
    this.vocabulary = vocabulary;
    if (typeof unknown === "number" && !(unknown >= 0 && unknown < vocab.length)) {
      throw new ValidationError(`its unk_id ${unknown} is not in its vocab`);
    }
    this.#unknown = typeof unknown === "number" ? unknown : null;
    this.#unknownScore = least - UNKNOWN_PENALTY;
    this.#bytes = byteIdsIn(model, vocabulary);
    this.#isBytes = isBytes;
  }

  encode(given: string): readonly number[] {
    return atOnce(this.steps(given));
  }

  *steps(given: string): Steps<number[]> {
    const word = this.#isBytes ? yield* byteCharactersInSteps(given) : given;
    const pieces = yield* this.#pieces(word);
    const all: number[] = [];
    for (const [index, piece] of pieces.entries()) {
      for (const id of this.#idsOf(piece)) all.push(id);
      if (index % CHARACTERS_A_STEP === CHARACTERS_A_STEP - 1) yield CHARACTERS_A_STEP;
    }
    return all;
  }

  /** The likeliest pieces; unknown characters that stand together are one. */
  *#pieces(word: string): Steps<string[]> {
    const scores = new Float64Array(word.length + 1);
    const starts = new Int32Array(word.length + 1).fill(-1);
    const ids = new Int32Array(word.length + 1);
    const reach = (at: number, end: number, score: number, id: number) => {
      if (starts[end] !== -1 && score <= scores[end]!) return;
      scores[end] = score;
      starts[end] = at;
      ids[end] = id;
    };
    let looked = 0;
    for (let at = 0; at < word.length;) {
      if (at - looked >= CHARACTERS_A_STEP) {
        yield CHARACTERS_A_STEP;
        looked = at;
      }
      const width = word.codePointAt(at)! > 0xffff ? 2 : 1;
      const before = scores[at]!;
      let hasCharacter = false;
      for (const length of this.#lengths.get(word[at]!) ?? []) {
        if (at + length > word.length) break;
        const id = this.vocabulary.get(word.slice(at, at + length));
        if (id === undefined) continue;
        reach(at, at + length, this.#scores[id]! + before, id);
        if (length === width) hasCharacter = true;
      }
      if (!hasCharacter) {
        if (this.#unknown === null) throw withoutUnknown(word.slice(at, at + width));
        reach(at, at + width, this.#unknownScore + before, this.#unknown);
      }
      at += width;
    }
    const pieces: string[] = [];
    let isUnknown = false;
    looked = word.length;
    for (let end = word.length; end > 0; end = starts[end]!) {
      if (looked - end >= CHARACTERS_A_STEP) {
        yield CHARACTERS_A_STEP;
        looked = end;
      }
      const piece = word.slice(starts[end]!, end);
      const goesOn = isUnknown && ids[end] === this.#unknown;
      isUnknown = ids[end] === this.#unknown;
      if (goesOn) pieces.push(piece + pieces.pop()!);
      else pieces.push(piece);
    }
    return pieces.reverse();
  }

  #idsOf(piece: string): readonly number[] {
    const id = this.vocabulary.get(piece);
    if (id !== undefined) return [id];
    const bytes = idsOfBytes(piece, this.#bytes);
    if (bytes !== null) return bytes;
    if (this.#unknown === null) throw withoutUnknown(piece);
    return [this.#unknown];
  }
}

function withoutUnknown(piece: string): ValidationError {
  return new ValidationError(
    `The tokenizer has no token for ${JSON.stringify(piece).slice(0, 100)}, and no unk_id`,
  );
}
