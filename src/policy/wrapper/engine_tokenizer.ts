import type { RLSGLangEngine } from "../../engine/engine.ts";
import type { DecodeOptions, EncodeOptions, SpecialTokens, Tokenizer } from "../tokenizer.ts";

/**
 * The tokenizer of an engine's servers, asked over HTTP: for models whose tokenizer files are not at
 * hand. It knows no chat template and no special tokens, so name a template to use conversations.
 */
export class EngineTokenizer implements Tokenizer {
  readonly name: string;
  readonly chatTemplate: null = null;
  readonly specialTokens: SpecialTokens = { bosToken: null, eosToken: null, padToken: null };
  readonly #engine: RLSGLangEngine;

  /** Makes a tokenizer; `name` is the model's, by which a chat template is chosen. */
  constructor(engine: RLSGLangEngine, name = "") {
    this.#engine = engine;
    this.name = name;
  }

  idOf(_token: string): null {
    return null;
  }

  async encode(text: string, options: EncodeOptions = {}): Promise<Int32Array> {
    if (text === "") return new Int32Array();
    const { addSpecialTokens = false, signal } = options;
    return await this.#engine.tokenize(text, { addSpecialTokens, signal });
  }

  async decode(ids: ArrayLike<number>, options: DecodeOptions = {}): Promise<string> {
    if (ids.length === 0) return "";
    const { skipSpecialTokens = false, signal } = options;
    return await this.#engine.detokenize(ids, { skipSpecialTokens, signal });
  }
}
