/** The tokenizer of a checkpoint folder. */
import { Tokenizer } from "@huggingface/tokenizers";
import { makeTokenDecoder, type TokenDecoder, vocabularyOf } from "../internal/token_decoder.ts";
import { makeTokenEncoder, type TokenEncoder } from "../internal/token_encoder/encoder.ts";
import { readJson } from "./read_json.ts";

/** Text to ids and back, as the server does it. */
export class ServerTokenizer {
  /** Encodes as Python does; `null` for models that only the package knows. */
  readonly #encoder: TokenEncoder | null;
  /** Decodes as Python does; `null` for decoders that only the package knows. */
  readonly #decoder: TokenDecoder | null;
  readonly #other: Tokenizer | null;
  /** Id of the end token that `tokenizer_config.json` names. */
  readonly eosTokenId: number | null;

  private constructor(file: Record<string, unknown>, config: Record<string, unknown>) {
    this.#encoder = makeTokenEncoder(file);
    this.#decoder = makeTokenDecoder({ ...vocabularyOf(file), decoder: file.decoder });
    const isWhole = this.#encoder !== null && this.#decoder !== null;
    this.#other = isWhole ? null : new Tokenizer(file, config);
    const eos = config.eos_token;
    this.eosTokenId = typeof eos === "string" ? this.#idOf(eos) : null;
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
    if (this.#encoder !== null) return [...this.#encoder.encode(text, options.addSpecialTokens)];
    return [...this.#other!.encode(text, { add_special_tokens: options.addSpecialTokens }).ids];
  }

  /** Text of ids. */
  decode(ids: readonly number[], options: { skipSpecialTokens: boolean }): string {
    if (ids.length === 0) return "";
    if (this.#decoder !== null) return this.#decoder.decode(ids, options.skipSpecialTokens);
    return this.#other!.decode([...ids], { skip_special_tokens: options.skipSpecialTokens });
  }

  #idOf(token: string): number | null {
    return this.#encoder === null
      ? this.#other!.token_to_id(token) ?? null
      : this.#encoder.idOf(token);
  }
}
