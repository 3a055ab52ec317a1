/** Texts to token ids as Hugging Face's `tokenizers` makes them of a `tokenizer.json`. */
import { ValidationError } from "../../errors.ts";
import { isRecord } from "../json.ts";
import { atOnce, type Steps } from "../work_turns.ts";
import { type AddedToken, AddedTokens, LOOKS } from "./added_tokens.ts";
import { BytePairEncoding } from "./bpe.ts";
import { Ids } from "./ids.ts";
import type { WordModel } from "./model.ts";
import { listOf, makeNormalizer, normalizedInSteps, type Normalizer } from "./normalizers.ts";
import { NotKnown } from "./not_known.ts";
import { makePreTokenizer, type PreTokenizer } from "./pre_tokenizers.ts";
import { Unigram } from "./unigram.ts";
import { WordLevel, WordPiece } from "./word_models.ts";

/** Turns texts into ids. */
export interface TokenEncoder {
  /** Ids of a text; with those that the tokenizer puts around one, such as a begin of sequence. */
  encode(text: string, addSpecialTokens: boolean): Int32Array;
  /** The same in steps: each tells how many characters were worked on. None is long. */
  steps(text: string, addSpecialTokens: boolean): Steps<Int32Array>;
  /** Id of a token by its text, or `null`. */
  idOf(token: string): number | null;
}

/**
 * Makes the encoder of a parsed `tokenizer.json`.
 *
 * @throws {NotKnown} It has a part that is not known here, which the message names.
 * @throws {ValidationError} It is broken.
 */
export function makeTokenEncoder(file: Readonly<Record<string, unknown>>): TokenEncoder {
  return new Encoder(file);
}

/**
 * The model; `isBytes` where words are to be written as bytes in GPT-2's characters first.
 *
 * @throws {NotKnown} It is another model, or has something that is not known here.
 * @throws {ValidationError} It is broken.
 */
function makeModel(config: unknown, isBytes: boolean): WordModel {
  if (!isRecord(config)) throw new NotKnown("a model that is no object");
  switch (config.type ?? guessedType(config)) {
    case "BPE":
      return new BytePairEncoding(config, isBytes);
    case "Unigram":
      return new Unigram(config, isBytes);
    case "WordPiece":
      return new WordPiece(config, isBytes);
    case "WordLevel":
      return new WordLevel(config, isBytes);
    default:
      throw new NotKnown(`the model ${String(config.type)}`);
  }
}

/** Files of old have no type. */
function guessedType({ vocab, merges, unk_id }: Readonly<Record<string, unknown>>): string {
  if (Array.isArray(vocab) || unk_id !== undefined) return "Unigram";
  return merges === undefined ? "WordPiece" : "BPE";
}

class Encoder implements TokenEncoder {
  readonly #model: WordModel;
  readonly #normalize: Normalizer;
  readonly #words: PreTokenizer;
  readonly #plain: AddedTokens;
  readonly #normalized: AddedTokens;
  readonly #added: ReadonlyMap<string, number>;
  readonly #around: Around;

  constructor(file: Readonly<Record<string, unknown>>) {
    this.#normalize = makeNormalizer(file.normalizer);
    this.#words = makePreTokenizer(file.pre_tokenizer);
    this.#model = makeModel(file.model, this.#words.endsInBytes);
    if (looksAtFirst(file.pre_tokenizer) && !keepsPlaces(file.normalizer)) {
      throw new NotKnown(
        'prepend_scheme "first" of Metaspace behind a normalizer that moves characters',
      );
    }
    const listed = addedTokensIn(file.added_tokens);
    // Where two look the same once they are normalized, a special one is found: always the same
    // one, whereas Python's choice changes from one start to the next.
    const added = [...listed.filter((one) => one.special), ...listed.filter((one) => !one.special)];
    const inText = (token: AddedToken) => token.normalized === true;
    this.#plain = new AddedTokens(added.filter((token) => !inText(token)), (one) => one.content);
    this.#normalized = new AddedTokens(
      added.filter(inText),
      ({ content }) => this.#normalize.of(content),
    );
    const lost = added.find((one) =>
      inText(one) && one.content !== "" && this.#normalize.of(one.content) === ""
    );
    if (lost !== undefined) {
      const name = JSON.stringify(lost.content).slice(0, 100);
      throw new NotKnown(`the added token ${name}, of which the normalizer leaves nothing`);
    }
    this.#added = new Map(added.map(({ content, id }) => [content, id]));
    this.#around = aroundOf(file.post_processor, (token) => this.idOf(token));
  }

  encode(text: string, addSpecialTokens: boolean): Int32Array {
    return atOnce(this.steps(text, addSpecialTokens));
  }

  *steps(text: string, addSpecialTokens: boolean): Steps<Int32Array> {
    const ids = new Ids();
    if (addSpecialTokens) ids.push(this.#around.before);
    for (const section of this.#plain.split(text.toWellFormed())) {
      if (section === null) yield LOOKS;
      else if (section.id !== null) {
        ids.pushOne(section.id);
        yield 1;
      } else yield* this.#encodeSection(section.text, section.start === 0, ids);
    }
    if (addSpecialTokens) ids.push(this.#around.behind);
    return ids.all();
  }

  idOf(token: string): number | null {
    return this.#added.get(token) ?? this.#model.vocabulary.get(token) ?? null;
  }

  *#encodeSection(text: string, isFirst: boolean, ids: Ids): Steps<void> {
    const normal = yield* normalizedInSteps(text, this.#normalize);
    for (const section of this.#normalized.split(normal)) {
      if (section === null) {
        yield LOOKS;
        continue;
      }
      if (section.id !== null) {
        ids.pushOne(section.id);
        yield 1;
        continue;
      }
      const piece = { text: section.text, isFirst: isFirst && section.start === 0 };
      let done = 0;
      for (const word of this.#words.cut(piece)) {
        const { length } = word.text;
        if (length <= LONG_WORD) {
          ids.push(this.#model.encode(word.text));
          // A step for each word would cost as much as the word.
          done += length;
          if (done < LONG_WORD) continue;
          yield done;
          done = 0;
          continue;
        }
        yield done;
        done = 0;
        ids.push(yield* this.#model.steps?.(word.text) ?? inOneStep(this.#model, word.text));
      }
      yield done;
    }
  }
}

/** Longer words are made in steps of their own. */
const LONG_WORD = 1024;

/** For models that look at no more than the beginning of a long word. */
function* inOneStep(model: WordModel, word: string): Steps<ArrayLike<number>> {
  const ids = model.encode(word);
  yield word.length / 64;
  return ids;
}

function addedTokensIn(value: unknown): AddedToken[] {
  return listOf(value).map((token) => {
    const isWhole = isRecord(token) && Number.isSafeInteger(token.id) &&
      typeof token.content === "string";
    if (isWhole) return token as unknown as AddedToken;
    throw new ValidationError("its added_tokens must have an id and a content each");
  });
}

/** Ids that a tokenizer puts around a text. */
interface Around {
  readonly before: readonly number[];
  readonly behind: readonly number[];
}

const nothing: Around = { before: [], behind: [] };

function aroundOf(config: unknown, idOf: (token: string) => number | null): Around {
  if (config === null || config === undefined) return nothing;
  if (!isRecord(config)) throw new NotKnown("a post-processor that is no object");
  switch (config.type) {
    case "ByteLevel":
      return nothing;
    case "Sequence": {
      const adding = listOf(config.processors).map((one) => aroundOf(one, idOf))
        .filter((one) => one !== nothing);
      // The second would count what the first has added as texts of their own.
      if (adding.length > 1) throw new NotKnown("several post-processors that add tokens");
      return adding[0] ?? nothing;
    }
    case "TemplateProcessing":
      return aroundSequence(config, idOf);
    case "BertProcessing":
    case "RobertaProcessing":
      return { before: [pairId(config.cls)], behind: [pairId(config.sep)] };
    default:
      throw new NotKnown(`the post-processor ${String(config.type)}`);
  }
}

function pairId(pair: unknown): number {
  const id = Array.isArray(pair) ? pair[1] : undefined;
  if (typeof id === "number") return id;
  throw new NotKnown("a post-processor without ids");
}

function aroundSequence(
  config: Readonly<Record<string, unknown>>,
  idOf: (token: string) => number | null,
): Around {
  const tokens = isRecord(config.special_tokens) ? config.special_tokens : {};
  const before: number[] = [];
  const behind: number[] = [];
  let list = before;
  for (const item of listOf(config.single)) {
    const { SpecialToken: special, Sequence: sequence } = isRecord(item) ? item : {};
    if (isRecord(sequence)) list = behind;
    else if (isRecord(special)) {
      const name = String(special.id);
      const known = tokens[name];
      const ids = isRecord(known) ? listOf(known.ids) : [idOf(name)];
      if (!ids.every((id) => typeof id === "number")) throw new NotKnown(`the token ${name}`);
      list.push(...ids);
    } else throw new NotKnown("a template of a post-processor");
  }
  if (list === before) throw new NotKnown("a template without a text");
  return { before, behind };
}

/** Whether a pre-tokenizer asks if a piece is the first of the text. */
function looksAtFirst(config: unknown): boolean {
  if (!isRecord(config)) return false;
  if (config.type === "Sequence") return listOf(config.pretokenizers).some(looksAtFirst);
  return config.type === "Metaspace" && config.prepend_scheme === "first";
}

/** Whether each character becomes one, so that the first stays the first. */
function keepsPlaces(config: unknown): boolean {
  if (config === null || config === undefined) return true;
  if (!isRecord(config)) return false;
  if (config.type === "Sequence") return listOf(config.normalizers).every(keepsPlaces);
  const text = isRecord(config.pattern) ? config.pattern.String : undefined;
  const isOne = (value: unknown) => typeof value === "string" && [...value].length === 1;
  return config.type === "Replace" && isOne(text) && isOne(config.content);
}
