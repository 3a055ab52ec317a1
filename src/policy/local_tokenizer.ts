import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { join } from "node:path";
import { ValidationError } from "../errors.ts";
import { namingPermission } from "../internal/permission.ts";
import type { DecodeOptions, EncodeOptions, SpecialTokens, Tokenizer } from "./tokenizer.ts";

/** The files of a tokenizer, parsed. */
export interface TokenizerFiles {
  /** `tokenizer.json`. */
  readonly tokenizer: Readonly<Record<string, unknown>>;
  /** `tokenizer_config.json`. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  /** `chat_template.jinja`; wins over the template in the config. */
  readonly chatTemplate?: string | undefined;
  /** Name or path of the model. */
  readonly name?: string | undefined;
}

/**
 * A tokenizer that runs in this process, without Python, on the files of a Hugging Face model.
 *
 * @example
 * ```ts ignore
 * import { LocalTokenizer } from "@sglang-rl/sglang-rl";
 *
 * const tokenizer = await LocalTokenizer.fromFolder("models/Qwen2.5-0.5B-Instruct");
 * const ids = tokenizer.encode("Hello");
 * ```
 */
export class LocalTokenizer implements Tokenizer {
  /** Name or folder of the model. */
  readonly name: string;
  /** The model's own chat template, or `null`. */
  readonly chatTemplate: string | null;
  /** The model's special tokens. */
  readonly specialTokens: SpecialTokens;
  /** Special tokens that a text may be cut before. */
  readonly wholeTokens: readonly string[];
  readonly #tokenizer: HuggingFaceTokenizer;

  /** Makes a tokenizer from parsed files. */
  constructor(files: TokenizerFiles) {
    const config = files.config ?? {};
    this.name = files.name ?? String(config.name_or_path ?? "");
    this.chatTemplate = files.chatTemplate ?? templateIn(config.chat_template);
    this.specialTokens = {
      bosToken: tokenIn(config.bos_token),
      eosToken: tokenIn(config.eos_token),
      padToken: tokenIn(config.pad_token),
    };
    this.wholeTokens = wholeTokensIn(files.tokenizer.added_tokens);
    this.#tokenizer = new HuggingFaceTokenizer(files.tokenizer, config);
  }

  /**
   * Reads `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` of a model folder; only
   * the first must be there. Needs `--allow-read` of the folder.
   *
   * @throws {ValidationError} There is no `tokenizer.json`, or a file is not JSON.
   * @throws {PermissionError} Deno refused to read the folder.
   */
  static async fromFolder(folder: string): Promise<LocalTokenizer> {
    const [tokenizer, config, chatTemplate] = await Promise.all([
      readOptional(folder, "tokenizer.json"),
      readOptional(folder, "tokenizer_config.json"),
      readOptional(folder, "chat_template.jinja"),
    ]);
    if (tokenizer === undefined) {
      throw new ValidationError(
        `There is no tokenizer.json in ${folder}: give the folder of a model with a fast tokenizer`,
      );
    }
    return new LocalTokenizer({
      tokenizer: parsed(tokenizer, join(folder, "tokenizer.json")),
      config: config === undefined
        ? undefined
        : parsed(config, join(folder, "tokenizer_config.json")),
      chatTemplate,
      name: folder,
    });
  }

  /** Id of a token by its text, or `null`. */
  idOf(token: string): number | null {
    return this.#tokenizer.token_to_id(token) ?? null;
  }

  /** Ids of a text. */
  encode(text: string, options: EncodeOptions = {}): Int32Array {
    const add_special_tokens = options.addSpecialTokens ?? false;
    return Int32Array.from(this.#tokenizer.encode(text, { add_special_tokens }).ids);
  }

  /** Text of ids. */
  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    // The library refuses an empty list.
    if (ids.length === 0) return "";
    return this.#tokenizer.decode(Array.from(ids), {
      skip_special_tokens: options.skipSpecialTokens ?? false,
      clean_up_tokenization_spaces: false,
    });
  }
}

async function readOptional(folder: string, name: string): Promise<string | undefined> {
  try {
    return await namingPermission(
      `--allow-read=${folder}`,
      "read the tokenizer",
      () => Deno.readTextFile(join(folder, name)),
    );
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return;
    throw error;
  }
}

function parsed(json: string, path: string): Record<string, unknown> {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new ValidationError(`${path} is not JSON`, { cause: error });
  }
}

/** Special tokens that look at nothing but themselves, not even at a space before them. */
function wholeTokensIn(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  const added = value as Record<string, unknown>[];
  return added
    .filter(({ special, lstrip, single_word, normalized, content }) =>
      special === true && !lstrip && !single_word && !normalized &&
      typeof content === "string" && content !== ""
    )
    .map(({ content }) => content as string);
}

/** A special token stands in the config as text or as an object with its text. */
function tokenIn(value: unknown): string | null {
  if (typeof value === "string") return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === "string" ? content : null;
}

/** A template stands in the config as text or as a list of named ones. */
function templateIn(value: unknown): string | null {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return null;
  const named = value as { name?: string; template?: string }[];
  return (named.find(({ name }) => name === "default") ?? named[0])?.template ?? null;
}
