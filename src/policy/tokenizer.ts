/** Special tokens of a model, as text. */
export interface SpecialTokens {
  /** Begin of sequence. */
  readonly bosToken: string | null;
  /** End of sequence. */
  readonly eosToken: string | null;
  /** Padding. */
  readonly padToken: string | null;
  /** What stands for text that the vocabulary has no token for. */
  readonly unkToken?: string | null | undefined;
  /** All tokens at which a server ends a turn, where the model names more than one. */
  readonly endTokens?: readonly string[] | undefined;
}

/** What {@linkcode Tokenizer.encode} does beside encoding. */
export interface EncodeOptions {
  /** Add the tokens that the model puts around a text, such as a begin-of-sequence token. Default `false`: a rendered chat has its own. */
  readonly addSpecialTokens?: boolean | undefined;
  /** Cancels a tokenizer that asks a server. */
  readonly signal?: AbortSignal | undefined;
}

/** What {@linkcode Tokenizer.decode} does beside decoding. */
export interface DecodeOptions {
  /** Leave special tokens out of the text. Default `false`. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** Cancels a tokenizer that asks a server. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Turns text into token ids and back. {@linkcode LocalTokenizer} reads one from a model folder; any
 * object of this form will do.
 */
export interface Tokenizer {
  /** Name or path of the model; chat templates are chosen by it. */
  readonly name: string;
  /** The model's own chat template, or `null`. */
  readonly chatTemplate: string | null;
  /** All of the model's chat templates by name, where it has several, such as `tool_use`. */
  readonly chatTemplates?: Readonly<Record<string, string>> | undefined;
  /** The model's special tokens. */
  readonly specialTokens: SpecialTokens;
  /**
   * Tokens that stand for themselves wherever they occur in a text, such as `<|im_end|>`: a text may
   * be tokenised in pieces that begin with one. Default none, so that texts are tokenised whole.
   */
  readonly wholeTokens?: readonly string[] | undefined;
  /** Id of a special token, or `null` when the vocabulary has no such token or does not tell. */
  idOf(token: string): number | null;
  /** Ids of a text. */
  encode(text: string, options?: EncodeOptions): Int32Array | Promise<Int32Array>;
  /**
   * The same ids, made in slices that leave others their turns of the event loop. Without it long texts
   * are encoded in one go.
   */
  encodeInSlices?(text: string, options?: EncodeOptions): Promise<Int32Array>;
  /** Text of ids. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string | Promise<string>;
  /**
   * Where each of the tokens begins and ends in the decoded text, in UTF-16 units: `[start, end]`
   * pairs one after the other, shape `[2 * ids.length]`. A token with a part of a character has all of
   * it. `null`, or no method, where that cannot be told.
   */
  borders?(ids: ArrayLike<number>): Int32Array | null;
}

/** Id to pad with: the padding token's, else the end-of-sequence token's, else `null`. */
export function padIdOf(tokenizer: Tokenizer): number | null {
  const { padToken, eosToken } = tokenizer.specialTokens;
  for (const token of [padToken, eosToken]) {
    const id = token === null ? null : tokenizer.idOf(token);
    if (id !== null) return id;
  }
  return null;
}
