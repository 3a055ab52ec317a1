/** The tokenizer of a checkpoint folder. */
import { makeTokenDecoder, type TokenDecoder, vocabularyOf } from "../internal/token_decoder.ts";
import { makeTokenEncoder, type TokenEncoder } from "../internal/token_encoder/encoder.ts";
import { readJson } from "./read_json.ts";

/** Text to ids and back, as the server does it. */
export class ServerTokenizer {
  readonly #encoder: TokenEncoder;
  readonly #decoder: TokenDecoder;
  /** Id of the end token that `tokenizer_config.json` names. */
  readonly eosTokenId: number | null;

  private constructor(file: Record<string, unknown>, config: Record<string, unknown>) {
    this.#encoder = makeTokenEncoder(file);
    this.#decoder = makeTokenDecoder({ ...vocabularyOf(file), decoder: file.decoder });
    const eos = config.eos_token;
    this.eosTokenId = typeof eos === "string" ? this.#encoder.idOf(eos) : null;
  }

  /** Reads `tokenizer.json` and `tokenizer_config.json` of a folder. */
  static async open(folder: string): Promise<ServerTokenizer> {
    const [model, config] = await Promise.all([
      readJson(`${folder}/tokenizer.json`),
      readJson(`${folder}/tokenizer_config.json`),
    ]);
    return new ServerTokenizer(model, config);
  }

  /** Ids of a text. */
  encode(text: string, options: { addSpecialTokens: boolean }): number[] {
    return [...this.#encoder.encode(text, options.addSpecialTokens)];
  }

  /** Text of ids. */
  decode(ids: readonly number[], options: { skipSpecialTokens: boolean }): string {
    return this.#decoder.decode(ids, options.skipSpecialTokens);
  }
}
