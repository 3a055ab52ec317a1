import type {
  DecodeOptions,
  EncodeOptions,
  SpecialTokens,
  Tokenizer,
} from "../policy/tokenizer.ts";
import { workTurns } from "../internal/work_turns.ts";
import { RecentMap } from "../internal/recent_map.ts";
import { areSame } from "./ids.ts";
import { escapeRegExp } from "../internal/text_of_bytes.ts";

/** Texts whose ids are compared with those of their pieces before pieces are relied on. */
const COMPARED_TEXTS = 8;
/** Texts from here on are made in slices: shorter ones take less than a turn of the event loop may. */
const LONG_TEXT = 4096;
/** Pieces that are met again before others have their turn. */
const KNOWN_A_TURN = 1024;
/** What a piece takes besides its characters. */
const PIECE_WORK = 8;
/** Memory for pieces that are kept. Many short ones take many times their characters. */
const KEPT_BYTES = 16 * 2 ** 20;

/**
 * A tokenizer that remembers. A text is cut before each special token, where every tokenizer cuts it
 * too, and the ids of a piece that it met before are not computed again; so a conversation that grows
 * turn by turn costs what was added. The ids are those of the tokenizer beneath: it is asked for the
 * first texts as a whole too, and for all texts where the two ever differ.
 */
export class PiecewiseTokenizer implements Tokenizer {
  readonly #inner: Tokenizer;
  readonly #cut: RegExp | null;
  readonly #pieces = new RecentMap<Int32Array>(KEPT_BYTES, (ids) => ids.byteLength);
  #comparisonsLeft = COMPARED_TEXTS;
  #areReliable = true;

  /** Stands in front of a tokenizer. */
  constructor(inner: Tokenizer) {
    this.#inner = inner;
    this.#cut = anyOf(inner.wholeTokens ?? []);
  }

  /** The tokenizer beneath. */
  get inner(): Tokenizer {
    return this.#inner;
  }

  /** Name or path of the model. */
  get name(): string {
    return this.#inner.name;
  }

  /** The model's own chat template, or `null`. */
  get chatTemplate(): string | null {
    return this.#inner.chatTemplate;
  }

  /** All of the model's chat templates by name, where it has several. */
  get chatTemplates(): Readonly<Record<string, string>> | undefined {
    return this.#inner.chatTemplates;
  }

  /** The model's special tokens. */
  get specialTokens(): SpecialTokens {
    return this.#inner.specialTokens;
  }

  /** Tokens that stand for themselves wherever they occur in a text. */
  get wholeTokens(): readonly string[] | undefined {
    return this.#inner.wholeTokens;
  }

  /** Id of a special token, or `null`. */
  idOf(token: string): number | null {
    return this.#inner.idOf(token);
  }

  /** Ids of a text. */
  encode(text: string, options: EncodeOptions = {}): Int32Array | Promise<Int32Array> {
    const isPlain = options.addSpecialTokens !== true;
    if (!isPlain || this.#cut === null || !this.#areReliable) return this.#whole(text, options);
    return this.#encodePieces(text, piecesOf(text, this.#cut), options);
  }

  /** Text of ids. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string | Promise<string> {
    return this.#inner.decode(ids, options);
  }

  /** Where each token begins and ends in the decoded text, where the tokenizer beneath can tell. */
  borders(ids: ArrayLike<number>): Int32Array | null {
    return this.#inner.borders?.(ids) ?? null;
  }

  async #encodePieces(
    text: string,
    pieces: Iterable<string>,
    options: EncodeOptions,
  ): Promise<Int32Array> {
    const parts: Int32Array[] = [];
    let known = 0;
    for (const piece of pieces) {
      const ids = this.#pieces.get(piece);
      // Also what is known takes its time where there is much of it.
      if (ids !== undefined && ++known % KNOWN_A_TURN === 0) await workTurns.turn(KNOWN_A_TURN);
      parts.push(ids ?? await this.#encodePiece(piece, options));
    }
    const ids = concatenated(parts);
    if (this.#comparisonsLeft === 0 || parts.length < 2) return ids;
    this.#comparisonsLeft--;
    const whole = await this.#whole(text, options);
    if (!areSame(ids, whole)) this.#areReliable = false;
    return whole;
  }

  async #encodePiece(piece: string, options: EncodeOptions): Promise<Int32Array> {
    // A long piece asks for its turns itself.
    if (piece.length < LONG_TEXT) await workTurns.turn(piece.length + PIECE_WORK);
    const ids = await this.#whole(piece, options);
    this.#pieces.set(piece, ids);
    return ids;
  }

  #whole(text: string, options: EncodeOptions): Int32Array | Promise<Int32Array> {
    if (text.length < LONG_TEXT) return this.#inner.encode(text, options);
    return this.#inner.encodeInSlices?.(text, options) ?? this.#inner.encode(text, options);
  }
}

function concatenated(parts: readonly Int32Array[]): Int32Array {
  const ids = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    ids.set(part, at);
    at += part.length;
  }
  return ids;
}

/** The text in pieces, each but the first beginning with a match, and cut when it is asked for. */
function* piecesOf(text: string, cut: RegExp): Generator<string, void, undefined> {
  let from = 0;
  for (const { index } of text.matchAll(cut)) {
    if (index > from) yield text.slice(from, index);
    from = index;
  }
  if (from < text.length) yield text.slice(from);
}

function anyOf(tokens: readonly string[]): RegExp | null {
  if (tokens.length === 0) return null;
  const longestFirst = tokens.toSorted((a, b) => b.length - a.length);
  return new RegExp(longestFirst.map(escapeRegExp).join("|"), "gu");
}
