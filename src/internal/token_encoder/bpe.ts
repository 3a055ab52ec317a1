/** Byte-pair encoding: ids of one word. */
import { RecentMap } from "../recent_map.ts";
import { atOnce, type Steps } from "../work_turns.ts";
import { asByteCharacters, byteCharactersInSteps, pieceEnd } from "./characters.ts";
import { Ids } from "./ids.ts";
import { Merges } from "./merges.ts";
import { type ByteIds, byteIdsIn, idsOfBytes, vocabularyIn, type WordModel } from "./model.ts";
import { listOf } from "./normalizers.ts";
import { NotKnown } from "./not_known.ts";

/** Memory for words that are kept. */
const KEPT_BYTES = 8 * 2 ** 20;
/** Longer words are hardly met again. */
const LONGEST_KEPT = 256;
/** Characters of a long word that are looked at in one step. */
const CHARACTERS_A_STEP = 1024;

/** The model of a `tokenizer.json` whose type is `BPE`. */
export class BytePairEncoding implements WordModel {
  /** Ids by their tokens. */
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly #merges: Merges;
  readonly #prefix: string;
  readonly #suffix: string;
  readonly #unknown: number | null;
  readonly #fusesUnknown: boolean;
  readonly #ignoresMerges: boolean;
  /** Ids of the tokens of bytes, `<0x00>` and so on, where a character may be written so. */
  readonly #bytes: ByteIds | null;
  readonly #isBytes: boolean;
  /** Ids of the tokens that are one unit of UTF-16, plus one; 0 where there is none. */
  readonly #units = new Int32Array(0x10000);
  readonly #known = new RecentMap<Int32Array>(KEPT_BYTES, (ids) => ids.byteLength);

  /**
   * Reads the model; `isBytes` where words are written as bytes in GPT-2's characters first.
   *
   * @throws {NotKnown} It is another model, or has something that is not known here.
   */
  constructor(model: Readonly<Record<string, unknown>>, isBytes: boolean) {
    if (!Array.isArray(model.merges)) throw new NotKnown("a model without merges");
    if (model.dropout) throw new NotKnown("dropout: the same text has many ids");
    const vocabulary = vocabularyIn(model.vocab);
    this.vocabulary = vocabulary;
    this.#prefix = String(model.continuing_subword_prefix ?? "");
    this.#suffix = String(model.end_of_word_suffix ?? "");
    this.#merges = new Merges(listOf(model.merges), vocabulary, this.#prefix);
    this.#unknown = vocabulary.get(String(model.unk_token ?? "")) ?? null;
    this.#fusesUnknown = model.fuse_unk === true;
    this.#ignoresMerges = model.ignore_merges === true;
    this.#isBytes = isBytes;
    this.#bytes = byteIdsIn(model, vocabulary);
    if (this.#prefix === "" && this.#suffix === "") {
      for (const [token, id] of vocabulary) {
        if (token.length === 1) this.#units[token.charCodeAt(0)] = id + 1;
      }
    }
  }

  /** Ids of a word, which belong to whoever made them: they are not to be changed. */
  encode(word: string): Int32Array {
    const known = word.length <= LONGEST_KEPT ? this.#known.get(word) : undefined;
    if (known !== undefined) return known;
    const ids = this.#encode(this.#isBytes ? asByteCharacters(word) : word);
    if (word.length <= LONGEST_KEPT) this.#known.set(word, ids);
    return ids;
  }

  *steps(given: string): Steps<Int32Array> {
    const symbols = this.#isCutAnywhere
      ? yield* this.#symbolsInPieces(given)
      : yield* this.#symbols(this.#isBytes ? yield* byteCharactersInSteps(given) : given);
    // No token is as long as a word that is made in steps.
    const count = yield* this.#merges.steps(symbols, symbols.length);
    return symbols.slice(0, count);
  }

  /** Whether the ids of a word's characters do not depend on what stands around them. */
  get #isCutAnywhere(): boolean {
    return this.#prefix === "" && this.#suffix === "" &&
      !(this.#fusesUnknown && this.#unknown !== null);
  }

  *#symbolsInPieces(word: string): Steps<Int32Array> {
    const all = new Ids(this.#isBytes || this.#bytes !== null ? 3 * word.length : word.length);
    for (let from = 0; from < word.length;) {
      const end = pieceEnd(word, from + CHARACTERS_A_STEP);
      const piece = word.slice(from, end);
      all.push(atOnce(this.#symbols(this.#isBytes ? asByteCharacters(piece) : piece)));
      yield CHARACTERS_A_STEP;
      from = end;
    }
    return all.shared();
  }

  #encode(word: string): Int32Array {
    const whole = this.#ignoresMerges ? this.vocabulary.get(word) : undefined;
    if (whole !== undefined) return Int32Array.of(whole);
    const symbols = atOnce(this.#symbols(word));
    const count = this.#merges.apply(symbols, symbols.length);
    return symbols.slice(0, count);
  }

  /** The ids of the characters of a word. */
  *#symbols(word: string): Steps<Int32Array> {
    // A character is at most three bytes for each of its units.
    const symbols = new Int32Array(this.#bytes === null ? word.length : 3 * word.length);
    let count = 0;
    let isUnknown = false;
    let looked = 0;
    for (let at = 0; at < word.length;) {
      if (at - looked >= CHARACTERS_A_STEP) {
        yield CHARACTERS_A_STEP / 2;
        looked = at;
      }
      const width = word.codePointAt(at)! > 0xffff ? 2 : 1;
      const id = this.#idAt(word, at, width);
      const start = at;
      at += width;
      if (id >= 0) {
        symbols[count++] = id;
        isUnknown = false;
        continue;
      }
      const bytes = idsOfBytes(this.#written(word, start, width), this.#bytes);
      if (bytes !== null) {
        for (const byte of bytes) symbols[count++] = byte;
        continue;
      }
      if (this.#unknown === null) continue;
      if (!(isUnknown && this.#fusesUnknown)) symbols[count++] = this.#unknown;
      isUnknown = true;
    }
    return symbols.subarray(0, count);
  }

  #idAt(word: string, at: number, width: number): number {
    if (this.#prefix === "" && this.#suffix === "" && width === 1) {
      return this.#units[word.charCodeAt(at)]! - 1;
    }
    return this.vocabulary.get(this.#written(word, at, width)) ?? -1;
  }

  #written(word: string, at: number, width: number): string {
    const character = word.slice(at, at + width);
    return (at > 0 ? this.#prefix : "") + character +
      (at + width === word.length ? this.#suffix : "");
  }
}
