import type { Generation } from "../../client/types.ts";
import { AsyncSGLang } from "../../engine/async_sglang.ts";
import { RLSGLangEngine } from "../../engine/engine.ts";
import { SGLangError, UnsupportedError, ValidationError } from "../../errors.ts";
import { describe } from "../batch_shape.ts";
import { LocalTokenizer } from "../local_tokenizer.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { LLMWrapperBase } from "./base.ts";
import { EngineTokenizer } from "./engine_tokenizer.ts";
import type { LLMWrapperOptions } from "./options.ts";
import type { PromptRow } from "./prompt_row.ts";

/** An engine, the address of a server or router, or a function that gives an engine when needed. */
export type EngineSource = RLSGLangEngine | string | (() => Promise<RLSGLangEngine>);

/**
 * A policy on SGLang servers: conversations, texts or token ids in; token ids, log-probabilities,
 * masks, texts and conversations out, exact enough to train on.
 *
 * Given an address it connects at the first call and disconnects when disposed. Needs `--allow-net`
 * for the servers, and `--allow-read` of the tokenizer's folder where one is given.
 *
 * @example
 * ```ts ignore
 * import { AsyncSGLang, SGLangWrapper } from "@sglang-rl/sglang-rl";
 *
 * await using engine = await AsyncSGLang.connect("http://127.0.0.1:30000");
 * const policy = new SGLangWrapper(engine, { generateKwargs: { maxNewTokens: 64 } });
 * const output = await policy.call({ history: [{ role: "user", content: "Hello" }] });
 * console.log(output.text?.only("response"), output.logProbs?.only("response"));
 * ```
 */
export class SGLangWrapper extends LLMWrapperBase implements AsyncDisposable {
  readonly #source: EngineSource;
  #engine: Promise<RLSGLangEngine> | undefined;
  #connected: RLSGLangEngine | undefined;
  #tokenizer: Promise<Tokenizer> | undefined;
  #canReturnPromptIds = true;

  /**
   * Makes a policy; nothing is opened before the first call.
   *
   * @throws {ValidationError} An option is unknown, out of range, or does not go with another.
   */
  constructor(model: EngineSource, options: LLMWrapperOptions = {}) {
    super(options);
    const isSource = model instanceof RLSGLangEngine || typeof model === "string" ||
      typeof model === "function";
    if (!isSource) {
      throw new ValidationError(
        `SGLangWrapper needs an engine or the address of a server, got ${describe(model)}`,
      );
    }
    this.#source = model;
    if (model instanceof RLSGLangEngine) this.#connected = model;
  }

  /** The engine, or its address until it is connected. */
  override get model(): RLSGLangEngine | string | null {
    return this.#connected ?? (typeof this.#source === "string" ? this.#source : null);
  }

  /**
   * The engine; connects when an address was given and nobody did yet.
   *
   * @throws {UnreachableError} Nobody answers at the address.
   */
  async engine(): Promise<RLSGLangEngine> {
    if (this.#source instanceof RLSGLangEngine) return this.#source;
    const engine = this.#engine ??= typeof this.#source === "string"
      ? AsyncSGLang.connect(this.#source, { logger: this.settings.logger })
      : this.#source();
    try {
      this.#connected = await engine;
    } catch (error) {
      // The server may come up later: the next call tries again.
      if (this.#engine === engine) this.#engine = undefined;
      throw error;
    }
    return this.#connected;
  }

  /** The tokenizer: the given one, the model's, or the server's. */
  override async tokenizer(): Promise<Tokenizer> {
    const tokenizer = this.#tokenizer ??= this.#findTokenizer();
    try {
      return await tokenizer;
    } catch (error) {
      if (this.#tokenizer === tokenizer) this.#tokenizer = undefined;
      throw error;
    }
  }

  /** A new wrapper of the same engine and tokenizer; given options win over the present ones. */
  override getNewVersion(overrides: LLMWrapperOptions = {}): SGLangWrapper {
    const source = this.#source instanceof RLSGLangEngine ? this.#source : () => this.engine();
    const version = new SGLangWrapper(source, { ...this.options, ...overrides });
    if (overrides.tokenizer === undefined) version.#tokenizer = this.tokenizer();
    // Whoever uses the tokenizer sees its error; nobody may.
    version.#tokenizer?.catch(() => {});
    return version;
  }

  /** Ends the queue, and the connection where this wrapper made it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.cleanupBatching();
    if (typeof this.#source !== "string") return;
    const engine = await this.#engine?.catch(() => undefined);
    await engine?.shutdown();
  }

  /** Generates for each row. */
  protected override async generateRows(
    prompts: readonly PromptRow[],
    options: { signal: AbortSignal | undefined },
  ): Promise<readonly Generation[]> {
    const { returnLogProbs, numSamples } = this.settings;
    return await this.#send(prompts, {
      ...options,
      perPrompt: numSamples ?? 1,
      request: {
        samplingParams: {
          ...this.settings.generateKwargs,
          ...(numSamples === undefined ? {} : { n: numSamples }),
        },
        returnLogProbs,
      },
    });
  }

  /** Scores each row. */
  protected override async scoreRows(
    prompts: readonly PromptRow[],
    options: { signal: AbortSignal | undefined },
  ): Promise<readonly Generation[]> {
    const request = {
      samplingParams: { maxNewTokens: 0 },
      returnLogProbs: true,
      logProbStartLen: 0,
    };
    return await this.#send(prompts, { ...options, perPrompt: 1, request });
  }

  /** Sends rows with ids as ids and the others as text, all at once. */
  async #send(
    prompts: readonly PromptRow[],
    options: {
      signal: AbortSignal | undefined;
      perPrompt: number;
      request: Record<string, unknown>;
    },
  ): Promise<readonly Generation[]> {
    const { perPrompt } = options;
    const engine = await this.engine();
    const withIds = prompts.filter(({ ids }) => ids !== null);
    const asText = prompts.filter(({ ids }) => ids === null);
    const [ofIds, ofText] = await togetherOrNotAtAll(options.signal, (signal) => {
      const request = { ...this.settings.requestOptions, ...options.request, signal };
      return [
        generateList(engine, { inputIds: withIds.map(({ ids }) => ids!) }, request),
        this.#sendText(engine, asText, request),
      ];
    });
    let atIds = 0;
    let atText = 0;
    return prompts.flatMap(({ ids }) => {
      if (ids !== null) return ofIds!.slice(atIds, atIds += perPrompt);
      return ofText!.slice(atText, atText += perPrompt);
    });
  }

  /** Sends text and has the server return the ids; an older server is asked to tokenise first. */
  async #sendText(
    engine: RLSGLangEngine,
    prompts: readonly PromptRow[],
    request: { signal: AbortSignal | undefined },
  ): Promise<Generation[]> {
    if (prompts.length === 0) return [];
    const text = prompts.map((prompt) => prompt.text!);
    if (this.#canReturnPromptIds) {
      try {
        const answers = await generateList(engine, { text }, { ...request, returnPromptIds: true });
        if (answers.every(({ promptIds }) => promptIds !== null)) return answers;
      } catch (error) {
        if (!(error instanceof UnsupportedError)) throw error;
      }
      this.#canReturnPromptIds = false;
      this.settings.logger.info(
        "The server does not return prompt ids; prompts are tokenised first",
      );
    }
    const { signal } = request;
    const inputIds = await Promise.all(
      text.map((item) => engine.tokenize(item, { addSpecialTokens: true, signal })),
    );
    return await generateList(engine, { inputIds }, request);
  }

  async #findTokenizer(): Promise<Tokenizer> {
    const { tokenizer, logger } = this.settings;
    if (typeof tokenizer === "string") return await LocalTokenizer.fromFolder(tokenizer);
    if (tokenizer !== undefined) return tokenizer;
    const engine = await this.engine();
    const [info] = await engine.modelInfo();
    const folder = info?.tokenizerPath ?? info?.modelPath ?? "";
    const { state } = await Deno.permissions.query({ name: "read", path: folder });
    if (state === "granted" && folder !== "") {
      try {
        return await LocalTokenizer.fromFolder(folder);
      } catch (error) {
        if (!(error instanceof SGLangError)) throw error;
        logger.info(error.message);
      }
    }
    logger.warn(
      `The tokenizer of ${folder || "the model"} cannot be read here (permission: ${state}); ` +
        "the server tokenises instead. Give a tokenizer to save those requests",
    );
    return new EngineTokenizer(engine, folder);
  }
}

async function generateList(
  engine: RLSGLangEngine,
  prompts: { text: string[] } | { inputIds: Int32Array[] },
  request: Record<string, unknown>,
): Promise<Generation[]> {
  if (Object.values(prompts).every((list) => list.length === 0)) return [];
  const answers = await engine.generate(prompts, request);
  return Array.isArray(answers) ? answers : [answers];
}

/** Runs works side by side; when one fails the others are aborted. */
async function togetherOrNotAtAll<T>(
  outer: AbortSignal | undefined,
  start: (signal: AbortSignal) => Promise<T>[],
): Promise<T[]> {
  const failed = new AbortController();
  const signal = outer ? AbortSignal.any([outer, failed.signal]) : failed.signal;
  try {
    return await Promise.all(start(signal));
  } catch (error) {
    failed.abort(error);
    throw error;
  }
}
