import type { RLSGLangEngine } from "../../engine/engine.ts";
import type { DecodeOptions, EncodeOptions, SpecialTokens, Tokenizer } from "../tokenizer.ts";

/**
 * The tokenizer of an engine's servers, asked over HTTP: for models whose tokenizer files are not at
 * hand. It knows no chat template and no special tokens, so name a template to use conversations.
 */
export class EngineTokenizer implements Tokenizer {
  /** Name of the model. */
  readonly name: string;
  /** Not known. */
  readonly chatTemplate: null = null;
  /** Not known. */
  readonly specialTokens: SpecialTokens = { bosToken: null, eosToken: null, padToken: null };
  readonly #engine: RLSGLangEngine;

  /** Makes a tokenizer; `name` is the model's, by which a chat template is chosen. */
  constructor(engine: RLSGLangEngine, name = "") {
    this.#engine = engine;
    this.name = name;
  }

  /** Not known. */
  idOf(_token: string): null {
    return null;
  }

  /** Ids of a text; one request. */
  async encode(text: string, options: EncodeOptions = {}): Promise<Int32Array> {
    if (text === "") return new Int32Array();
    const { addSpecialTokens = false, signal } = options;
    return await this.#engine.tokenize(text, { addSpecialTokens, signal });
  }

  /** Text of ids; one request. */
  async decode(ids: ArrayLike<number>, options: DecodeOptions = {}): Promise<string> {
    if (ids.length === 0) return "";
    const { skipSpecialTokens = false, signal } = options;
    return await this.#engine.detokenize(ids, { skipSpecialTokens, signal });
  }
}
