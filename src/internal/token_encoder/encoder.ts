/** Texts to token ids as Hugging Face's `tokenizers` makes them of a `tokenizer.json`. */
import { ValidationError } from "../../errors.ts";
import { isRecord } from "../json.ts";
import { type AddedToken, AddedTokens } from "./added_tokens.ts";
import { BytePairEncoding } from "./bpe.ts";
import { listOf, makeNormalizer, type Normalizer } from "./normalizers.ts";
import { NotKnown } from "./not_known.ts";
import { makePreTokenizer, type PreTokenizer } from "./pre_tokenizers.ts";

/** Turns texts into ids. */
export interface TokenEncoder {
  /** Ids of a text; with those that the tokenizer puts around one, such as a begin of sequence. */
  encode(text: string, addSpecialTokens: boolean): Int32Array;
  /** Id of a token by its text, or `null`. */
  idOf(token: string): number | null;
}

/**
 * Makes the encoder of a parsed `tokenizer.json`, or `null` when it has a part that is not known here:
 * models that are no byte-pair encoding, and rare normalizers and pre-tokenizers.
 *
 * @throws {ValidationError} It is broken.
 */
export function makeTokenEncoder(file: Readonly<Record<string, unknown>>): TokenEncoder | null {
  try {
    return new Encoder(file);
  } catch (error) {
    if (error instanceof NotKnown) return null;
    throw error;
  }
}

class Encoder implements TokenEncoder {
  readonly #model: BytePairEncoding;
  readonly #normalize: Normalizer;
  readonly #words: PreTokenizer;
  readonly #plain: AddedTokens;
  readonly #normalized: AddedTokens;
  readonly #added: ReadonlyMap<string, number>;
  readonly #around: Around;

  constructor(file: Readonly<Record<string, unknown>>) {
    this.#normalize = makeNormalizer(file.normalizer);
    this.#words = makePreTokenizer(file.pre_tokenizer);
    this.#model = new BytePairEncoding(file.model, this.#words.endsInBytes);
    const added = addedTokensIn(file.added_tokens);
    const inText = (token: AddedToken) => token.normalized === true;
    this.#plain = new AddedTokens(added.filter((token) => !inText(token)), (one) => one.content);
    this.#normalized = new AddedTokens(
      added.filter(inText),
      ({ content }) => this.#normalize(content),
    );
    this.#added = new Map(added.map(({ content, id }) => [content, id]));
    this.#around = aroundOf(file.post_processor, (token) => this.idOf(token));
  }

  encode(text: string, addSpecialTokens: boolean): Int32Array {
    const ids = new Ids();
    if (addSpecialTokens) ids.push(this.#around.before);
    for (const section of this.#plain.split(text.toWellFormed())) {
      if (section.id !== null) ids.pushOne(section.id);
      else this.#encodeSection(section.text, section.start === 0, ids);
    }
    if (addSpecialTokens) ids.push(this.#around.behind);
    return ids.all();
  }

  idOf(token: string): number | null {
    return this.#added.get(token) ?? this.#model.vocabulary.get(token) ?? null;
  }

  #encodeSection(text: string, isFirst: boolean, ids: Ids): void {
    for (const section of this.#normalized.split(this.#normalize(text))) {
      if (section.id !== null) {
        ids.pushOne(section.id);
        continue;
      }
      const piece = { text: section.text, isFirst: isFirst && section.start === 0 };
      for (const word of this.#words.cut(piece)) ids.push(this.#model.encode(word.text));
    }
  }
}

function addedTokensIn(value: unknown): AddedToken[] {
  return listOf(value).map((token) => {
    const isWhole = isRecord(token) && Number.isSafeInteger(token.id) &&
      typeof token.content === "string";
    if (isWhole) return token as unknown as AddedToken;
    throw new ValidationError("its added_tokens must have an id and a content each");
  });
}

/** A list of ids that grows. */
class Ids {
  #ids = new Int32Array(256);
  #length = 0;

  push(more: ArrayLike<number>): void {
    this.#makeRoom(more.length);
    this.#ids.set(more, this.#length);
    this.#length += more.length;
  }

  pushOne(id: number): void {
    this.#makeRoom(1);
    this.#ids[this.#length++] = id;
  }

  all(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }

  #makeRoom(more: number): void {
    if (this.#length + more <= this.#ids.length) return;
    const larger = new Int32Array(2 * (this.#length + more));
    larger.set(this.#ids.subarray(0, this.#length));
    this.#ids = larger;
  }
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
    case "Sequence":
      // The first stands next to the text.
      return listOf(config.processors).map((one) => aroundOf(one, idOf))
        .reduce((inner, { before, behind }) => ({
          before: [...before, ...inner.before],
          behind: [...inner.behind, ...behind],
        }), nothing);
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
