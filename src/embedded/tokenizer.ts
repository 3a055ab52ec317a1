/** The tokenizer of a checkpoint folder. */
import { Tokenizer } from "@huggingface/tokenizers";
import { makeTokenDecoder, type TokenDecoder, vocabularyOf } from "../internal/token_decoder.ts";
import { readJson } from "./read_json.ts";

/** Text to ids and back, as the server does it. */
export class ServerTokenizer {
  readonly #tokenizer: Tokenizer;
  /** Decodes as Python does; `null` for decoders that only the package knows. */
  readonly #decoder: TokenDecoder | null;
  /** Id of the end token that `tokenizer_config.json` names. */
  readonly eosTokenId: number | null;

  private constructor(
    tokenizer: Tokenizer,
    decoder: TokenDecoder | null,
    eosTokenId: number | null,
  ) {
    this.#tokenizer = tokenizer;
    this.#decoder = decoder;
    this.eosTokenId = eosTokenId;
  }

  /** Reads `tokenizer.json` and `tokenizer_config.json` of a folder. */
  static async open(folder: string): Promise<ServerTokenizer> {
    const [model, config] = await Promise.all([
      readJson(`${folder}/tokenizer.json`),
      readJson(`${folder}/tokenizer_config.json`),
    ]);
    const tokenizer = new Tokenizer(model, config);
    const eos = config.eos_token;
    const eosId = typeof eos === "string" ? tokenizer.token_to_id(eos) : undefined;
    const decoder = makeTokenDecoder({ ...vocabularyOf(model), decoder: model.decoder });
    return new ServerTokenizer(tokenizer, decoder, eosId ?? null);
  }

  /** Ids of a text. */
  encode(text: string, options: { addSpecialTokens: boolean }): number[] {
    const { ids } = this.#tokenizer.encode(text, { add_special_tokens: options.addSpecialTokens });
    return [...ids];
  }

  /** Text of ids. */
  decode(ids: readonly number[], options: { skipSpecialTokens: boolean }): string {
    if (ids.length === 0) return "";
    if (this.#decoder !== null) return this.#decoder.decode(ids, options.skipSpecialTokens);
    return this.#tokenizer.decode([...ids], { skip_special_tokens: options.skipSpecialTokens });
  }
}
