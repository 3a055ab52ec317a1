import { join } from "node:path";
import { PermissionError, SGLangError, ValidationError } from "../errors.ts";
import { throwIfAborted } from "../internal/deadline.ts";
import { parseJsonOfFile } from "../internal/json.ts";
import { pathOf } from "../internal/path_of.ts";
import { asPermissionError } from "../internal/permission.ts";
import { isMissingFile, readRegularFile } from "../internal/regular_file.ts";
import { type Limits, limitsOf, overLimit } from "../internal/limits.ts";
import { TEXT_CHARACTERS } from "../internal/replaced.ts";
import { messageOf } from "../internal/thrown.ts";
import { makeTokenDecoder, type TokenDecoder, vocabularyOf } from "../internal/token_decoder.ts";
import { makeTokenEncoder, type TokenEncoder } from "../internal/token_encoder/encoder.ts";
import { stepsWithinTime, textWithinTime } from "../internal/watchdog.ts";
import { workTurns } from "../internal/work_turns.ts";
import type { DecodeOptions, EncodeOptions, SpecialTokens, Tokenizer } from "./tokenizer.ts";
import { isSystemError, runtime } from "../runtime/mod.ts";

/** What is taken of the files of a tokenizer, and what their rules may do: they are somebody else's. */
export interface TokenizerLimits {
  /** Longest file, in bytes. Default 128 MiB; the largest models have some 35 MiB. */
  readonly fileBytes?: number | undefined;
  /** Most further chat templates, in `additional_chat_templates`. Default 100. */
  readonly templates?: number | undefined;
  /** Most merges of the model, which take some 500 bytes each. Default 600 000. */
  readonly merges?: number | undefined;
  /** Longest time for one text, in milliseconds. Default a second and 0.02 ms for each character. */
  readonly textMs?: number | undefined;
  /** Most characters that its rules may make of a text. Default 64 Mi. */
  readonly textCharacters?: number | undefined;
}

const DEFAULT_LIMITS = {
  fileBytes: 128 * 2 ** 20,
  templates: 100,
  merges: 600_000,
  textCharacters: TEXT_CHARACTERS,
};

/** Characters of a slice of a long text. */
const SLICE = 4096;

/** The limits with their defaults. */
type TokenizerLimitSettings =
  & { readonly [Name in keyof typeof DEFAULT_LIMITS]: number }
  & { readonly textMs: number | undefined };

/** The files of a tokenizer, parsed. */
export interface TokenizerFiles {
  /** `tokenizer.json`. */
  readonly tokenizer: Readonly<Record<string, unknown>>;
  /** `tokenizer_config.json`. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  /** `chat_template.jinja`; wins over the template in the config. */
  readonly chatTemplate?: string | undefined;
  /** Further templates by name, from `additional_chat_templates`. */
  readonly chatTemplates?: Readonly<Record<string, string>> | undefined;
  /** `generation_config.json`: its `eos_token_id` are the tokens that end a turn. */
  readonly generation?: Readonly<Record<string, unknown>> | undefined;
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
  /** All of the model's chat templates by name. */
  readonly chatTemplates: Readonly<Record<string, string>>;
  /** The model's special tokens. */
  readonly specialTokens: SpecialTokens;
  /** Special tokens that a text may be cut before. */
  readonly wholeTokens: readonly string[];
  readonly #encoder: TokenEncoder;
  readonly #decoder: TokenDecoder;
  readonly #added: { bos: boolean | null; eos: boolean | null };
  readonly #limits: TokenizerLimitSettings;

  /**
   * Makes a tokenizer from parsed files.
   *
   * @throws {ValidationError} They cannot be used.
   * @throws {LimitError} They have more merges than `limits.merges`.
   */
  constructor(
    files: TokenizerFiles,
    { limits }: { readonly limits?: TokenizerLimits | undefined } = {},
  ) {
    this.#limits = settingsOf(limits);
    const config = files.config ?? {};
    this.name = files.name ?? String(config.name_or_path ?? "");
    this.chatTemplates = { ...templatesIn(config.chat_template), ...files.chatTemplates };
    this.chatTemplate = files.chatTemplate ?? this.chatTemplates.default ?? null;
    const { words, wholeTokens, encoder, decoder } = readTokenizer(files, this.#limits);
    this.specialTokens = {
      bosToken: tokenIn(config.bos_token),
      eosToken: tokenIn(config.eos_token),
      padToken: tokenIn(config.pad_token),
      unkToken: tokenIn(config.unk_token),
      endTokens: endTokensIn(files.generation?.eos_token_id, words.tokens),
    };
    this.wholeTokens = wholeTokens;
    this.#encoder = encoder;
    this.#decoder = decoder;
    this.#added = {
      bos: typeof config.add_bos_token === "boolean" ? config.add_bos_token : null,
      eos: typeof config.add_eos_token === "boolean" ? config.add_eos_token : null,
    };
  }

  /**
   * Reads `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and the chat templates
   * (`chat_template.jinja`, `chat_template.json`, `additional_chat_templates/`) of a model folder;
   * only the first must be there. Needs `--allow-read` of the folder. `signal` cancels the reading.
   *
   * @throws {ValidationError} There is no `tokenizer.json`, or a file is not JSON.
   * @throws {LimitError} A file, or what it holds, is larger than `limits` allow.
   * @throws {PermissionError} Deno refused to read the folder.
   * @throws {AbortedError} The signal fired.
   */
  static async fromFolder(
    place: string,
    { signal, limits }: {
      readonly signal?: AbortSignal | undefined;
      readonly limits?: TokenizerLimits | undefined;
    } = {},
  ): Promise<LocalTokenizer> {
    const folder = pathOf(place, "a tokenizer");
    const settings = settingsOf(limits);
    const { fileBytes } = settings;
    const json = async (name: string) => {
      const text = await readOptional(folder, name, fileBytes, signal);
      if (text === undefined) return undefined;
      return parseJsonOfFile(text, join(folder, name)) as Record<string, unknown>;
    };
    const [tokenizer, config, generation, template, templateJson, chatTemplates] = await Promise
      .all([
        json("tokenizer.json"),
        json("tokenizer_config.json"),
        json("generation_config.json"),
        readOptional(folder, "chat_template.jinja", fileBytes, signal),
        json("chat_template.json"),
        readTemplates(folder, settings, signal),
      ]);
    if (tokenizer === undefined) {
      throw new ValidationError(
        `There is no tokenizer.json in ${folder}: give the folder of a model with a fast tokenizer`,
      );
    }
    const named = templatesIn(templateJson?.chat_template);
    return new LocalTokenizer({
      tokenizer,
      config,
      generation,
      chatTemplate: template ?? named.default,
      chatTemplates: { ...named, ...chatTemplates },
      // Not to be taken for the name of a model on a hub.
      name: /^[\w-][\w.-]*\/[\w.-]+$/.test(folder) ? `./${folder}` : folder,
    }, { limits });
  }

  /** Id of a token by its text, or `null`. */
  idOf(token: string): number | null {
    return this.#encoder.idOf(token);
  }

  /**
   * Ids of a text.
   *
   * @throws {LimitError} It took longer than `limits.textMs`: a pattern of the tokenizer's file is
   *   made, or happens, to try a text in endlessly many ways.
   */
  encode(text: string, options: EncodeOptions = {}): Int32Array {
    const add_special_tokens = options.addSpecialTokens ?? false;
    const ids = this.#inTime(text.length, () => this.#encoder.encode(text, add_special_tokens));
    return add_special_tokens ? this.#withEnds(ids) : ids;
  }

  /**
   * The same in slices, between which others have the event loop: for long texts.
   *
   * @throws {LimitError} All slices together took longer than `limits.textMs`.
   * @throws {AbortedError} The signal fired.
   */
  async encodeInSlices(
    text: string,
    { addSpecialTokens = false, signal }: EncodeOptions = {},
    turns: { turn(work: number): Promise<void> } = workTurns,
  ): Promise<Int32Array> {
    if (text.length <= SLICE) {
      await turns.turn(text.length);
      return this.encode(text, { addSpecialTokens });
    }
    const turn = async (work: number) => {
      await turns.turn(work);
      throwIfAborted(signal, "tokenising a text");
    };
    const make = () => this.#encoder.steps(text, addSpecialTokens);
    const options = { ...this.#limits, most: SLICE, turn };
    try {
      const ids = await stepsWithinTime(this.#who, text.length, make, options);
      return addSpecialTokens ? this.#withEnds(ids) : ids;
    } catch (error) {
      throw this.#ours(error);
    }
  }

  /** Text of ids. */
  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    return this.#asOurs(() => this.#decoder.decode(ids, options.skipSpecialTokens ?? false));
  }

  /**
   * Where each token begins and ends in the decoded text, in UTF-16 units, or `null` where that
   * cannot be told; see {@linkcode Tokenizer.borders}.
   */
  borders(ids: ArrayLike<number>): Int32Array | null {
    return this.#decoder.borders(ids);
  }

  #inTime<T>(size: number, run: () => T): T {
    return this.#asOurs(() => textWithinTime(this.#who, size, run, this.#limits));
  }

  get #who(): string {
    return `The tokenizer ${this.name || "of this model"}`;
  }

  /** A rule of the file that fails on a text is an error of ours: a pattern is compiled at its first use. */
  #asOurs<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw this.#ours(error);
    }
  }

  #ours(error: unknown): SGLangError {
    if (error instanceof SGLangError) return error;
    return new ValidationError(
      `${this.#who} fails on this text: ${messageOf(error).slice(0, 300)}`,
      { cause: error },
    );
  }

  /** Begin and end of sequence as the model's settings want them, whatever `tokenizer.json` adds. */
  #withEnds(ids: Int32Array): Int32Array {
    const { bosToken, eosToken } = this.specialTokens;
    const bos = bosToken === null ? null : this.idOf(bosToken);
    const eos = eosToken === null ? null : this.idOf(eosToken);
    let result = ids;
    if (bos !== null && this.#added.bos === true && ids[0] !== bos) {
      result = Int32Array.of(bos, ...result);
    }
    if (bos !== null && this.#added.bos === false && ids[0] === bos) result = result.subarray(1);
    if (eos !== null && this.#added.eos === true && ids.at(-1) !== eos) {
      result = Int32Array.of(...result, eos);
    }
    return result;
  }
}

function settingsOf(limits: TokenizerLimits | undefined): TokenizerLimitSettings {
  // The time has no default of its own: it is one of each text.
  const given: Limits<keyof TokenizerLimits> = { textMs: Infinity, ...limits };
  const { textMs, ...all } = limitsOf(
    given,
    { ...DEFAULT_LIMITS, textMs: Infinity },
    "a tokenizer",
  );
  return { ...all, textMs: limits?.textMs === undefined ? undefined : textMs };
}

async function readTemplates(
  folder: string,
  { templates: max, fileBytes }: TokenizerLimitSettings,
  signal: AbortSignal | undefined,
): Promise<Record<string, string>> {
  const templates: Record<string, string> = {};
  let count = 0;
  const path = join(folder, "additional_chat_templates");
  try {
    for await (const { name } of runtime().readDir(path)) {
      throwIfAborted(signal, `list ${path}`);
      if (!name.endsWith(".jinja")) continue;
      if (++count > max) throw overLimit(`${path} has ${count} templates`, "templates", max);
      const template = await readOptional(path, name, fileBytes, signal);
      if (template !== undefined) templates[name.slice(0, -".jinja".length)] = template;
    }
  } catch (error) {
    // Few models have any.
    if (!isSystemError(error, "NotFound", "NotADirectory")) {
      throw asPermissionError(error, `--allow-read=${folder}`, "read the tokenizer");
    }
  }
  return templates;
}

/** Texts of the ids at which a server ends a turn. */
function endTokensIn(ids: unknown, tokens: readonly (string | undefined)[]): string[] {
  const list = Array.isArray(ids) ? ids : [ids];
  return list.map((id) => tokens[id]).filter((token) => token !== undefined);
}

/** Makes what is made of `tokenizer.json`; whatever is wrong with one is an error of ours. */
function readTokenizer({ tokenizer: file, name }: TokenizerFiles, limits: TokenizerLimitSettings) {
  const { merges } = (file?.model ?? {}) as { readonly merges?: unknown };
  if (Array.isArray(merges) && merges.length > limits.merges) {
    throw overLimit(
      `tokenizer.json${name === undefined ? "" : ` of ${name}`} has ${merges.length} merges`,
      "merges",
      limits.merges,
    );
  }
  try {
    const words = vocabularyOf(file);
    const encoder = makeTokenEncoder(file);
    const decoder = makeTokenDecoder({ ...words, decoder: file.decoder, limits });
    return { words, wholeTokens: wholeTokensIn(file.added_tokens), encoder, decoder };
  } catch (error) {
    if (error instanceof SGLangError && !(error instanceof ValidationError)) throw error;
    throw new ValidationError(
      `tokenizer.json${name === undefined ? "" : ` of ${name}`} cannot be used: ` +
        messageOf(error).slice(0, 500),
      { cause: error },
    );
  }
}

async function readOptional(
  folder: string,
  name: string,
  maxBytes: number,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const refuse = (message: string, options?: ErrorOptions) => new ValidationError(message, options);
  try {
    const bytes = await readRegularFile(join(folder, name), {
      refuse,
      limit: "limits.fileBytes",
      maxBytes,
      signal,
    });
    return new TextDecoder().decode(bytes);
  } catch (error) {
    if (error instanceof PermissionError) {
      const flag = `--allow-read=${folder}`;
      throw asPermissionError(error.cause, flag, "read the tokenizer");
    }
    if (isMissingFile(error)) return undefined;
    throw error;
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
function templatesIn(value: unknown): Record<string, string> {
  if (typeof value === "string") return { default: value };
  if (value === undefined || value === null) return {};
  const list = Array.isArray(value) ? value as { name?: unknown; template?: unknown }[] : null;
  const isNamed = list?.every((one) =>
    typeof one?.name === "string" && typeof one.template === "string"
  );
  if (list === null || !isNamed) {
    throw new ValidationError(
      "The chat_template of the model's files must be a text, or a list of { name, template }, got " +
        JSON.stringify(value).slice(0, 100),
    );
  }
  return Object.fromEntries(list.map(({ name, template }) => [name, template]));
}
