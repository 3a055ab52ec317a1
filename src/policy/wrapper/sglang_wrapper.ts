import { mergeSampling } from "../../client/sampling_params.ts";
import type { Generation } from "../../client/types.ts";
import { AsyncSGLang } from "../../engine/async_sglang.ts";
import { type GenerateOptions, RLSGLangEngine } from "../../engine/engine.ts";
import { SGLangError, StateError, UnsupportedError, ValidationError } from "../../errors.ts";
import { throwIfAborted } from "../../internal/deadline.ts";
import { orAborted } from "../../internal/or_aborted.ts";
import { asError, messageOf } from "../../internal/thrown.ts";
import { describe } from "../batch_shape.ts";
import { LocalTokenizer } from "../local_tokenizer.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { LLMWrapperBase } from "./base.ts";
import { ContextLimit, countedTokens, type NewTokens, newTokensOf } from "./context_limit.ts";
import { EngineTokenizer } from "./engine_tokenizer.ts";
import type { InputMode, LLMWrapperOptions } from "./options.ts";
import type { DefaultOutput, OnlyOptions, UnknownKeys } from "./policy_output.ts";
import type { PromptRow, RowOutcome } from "./prompt_row.ts";
import { runtime } from "../../runtime/mod.ts";

/** An engine, the address of a server or router, or a function that gives an engine when needed. */
export type EngineSource = RLSGLangEngine | string | (() => Promise<RLSGLangEngine>);

/** Any wrapper of SGLang, whatever it reads and gives out. */
export type AnySGLangWrapper = SGLangWrapper<InputMode, UnknownKeys>;

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
 * console.log(output.text.only("response"), output.logProbs.only("response"));
 * ```
 */
export class SGLangWrapper<Mode extends InputMode = "history", const Given = DefaultOutput>
  extends LLMWrapperBase<Mode, Given>
  implements AsyncDisposable {
  readonly #source: EngineSource;
  #engine: Promise<RLSGLangEngine> | undefined;
  #connected: RLSGLangEngine | undefined;
  #tokenizer: Promise<Tokenizer> | undefined;
  /** Fires when nobody needs the tokenizer any more. */
  readonly #ended = new AbortController();
  readonly #limit = new ContextLimit();
  #isLimitRead = false;
  #wanted: NewTokens | undefined;
  #canReturnPromptIds = true;

  /**
   * Makes a policy; nothing is opened before the first call.
   *
   * @throws {ValidationError} An option is unknown, out of range, or does not go with another.
   */
  constructor(
    model: EngineSource,
    options?: LLMWrapperOptions<Mode> & Given & OnlyOptions<Given>,
  ) {
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

  /**
   * The tokenizer: the given one, the model's, or the server's. A signal ends the wait of its caller;
   * the files are read on for the others, until this wrapper is disposed of.
   */
  override async tokenizer(
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<Tokenizer> {
    throwIfAborted(signal, "read the tokenizer");
    const tokenizer = this.#tokenizer ??= this.#startTokenizer();
    try {
      return await (signal === undefined ? tokenizer : orAborted(tokenizer, signal));
    } catch (error) {
      throwIfAborted(signal, "read the tokenizer");
      throw error;
    }
  }

  /** A new wrapper of the same engine and tokenizer; given options win over the present ones. */
  override getNewVersion<NewMode extends InputMode = Mode, const New = DefaultOutput>(
    overrides?: LLMWrapperOptions<NewMode> & New & OnlyOptions<New>,
  ): SGLangWrapper<NewMode, Omit<Given, keyof New> & New> {
    const source = this.#source instanceof RLSGLangEngine ? this.#source : () => this.engine();
    const version: SGLangWrapper<InputMode> = new SGLangWrapper(source, {
      ...this.options,
      ...overrides as LLMWrapperOptions | undefined,
    });
    if (overrides?.tokenizer === undefined) version.#tokenizer = this.tokenizer();
    // Whoever uses the tokenizer sees its error; nobody may.
    version.#tokenizer?.catch(() => {});
    return version as unknown as SGLangWrapper<NewMode, Omit<Given, keyof New> & New>;
  }

  /** Ends the queue, and the connection where this wrapper made it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort(new StateError("The wrapper was closed"));
    await this.cleanupBatching();
    if (typeof this.#source !== "string") return;
    const engine = await this.#engine?.catch(() => undefined);
    await engine?.shutdown();
  }

  /** Most tokens that a prompt may have, as the servers tell; `Infinity` where they do not. */
  override async promptLimit(
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<number> {
    if (!this.#isLimitRead) await this.#readLimit(signal);
    this.#isLimitRead = true;
    return this.#limit.prompt;
  }

  /** Generates for each row. */
  protected override async generateRows(
    prompts: readonly PromptRow[],
    options: { signal: AbortSignal | undefined },
  ): Promise<readonly RowOutcome[]> {
    const { returnLogProbs, numSamples } = this.settings;
    return await this.#sendRows(prompts, {
      ...options,
      request: {
        samplingParams: {
          ...this.settings.generateKwargs,
          ...(numSamples === undefined ? {} : { n: numSamples }),
        },
        returnLogProbs,
      },
      wanted: this.#wanted ??= newTokensOf(this.settings.generateKwargs),
    });
  }

  /** Scores each row. */
  protected override async scoreRows(
    prompts: readonly PromptRow[],
    options: { signal: AbortSignal | undefined },
  ): Promise<readonly RowOutcome[]> {
    const request = {
      samplingParams: { maxNewTokens: 0 },
      returnLogProbs: true,
      logProbStartLen: 0,
    };
    return await this.#sendRows(prompts, { ...options, request, wanted: SCORE });
  }

  /** Sends every row by itself, all at once: one that fails does not touch the others. */
  async #sendRows(
    prompts: readonly PromptRow[],
    { signal, wanted, request }: SendOptions & { readonly request: GenerateOptions },
  ): Promise<readonly RowOutcome[]> {
    const engine = await this.engine();
    const shared: GenerateOptions = { ...this.settings.requestOptions, ...request, signal };
    return await Promise.all(
      prompts.map(async ({ ids, text, samplingSeed }): Promise<RowOutcome> => {
        const options = samplingSeed === undefined || wanted === SCORE ? shared : {
          ...shared,
          samplingParams: mergeSampling(shared.samplingParams ?? {}, { samplingSeed }),
        };
        try {
          const generations = ids === null
            ? await this.#sendText(engine, text!, { options, wanted })
            : await this.#sendIds(engine, ids, { options, wanted });
          return { generations };
        } catch (error) {
          if (signal?.aborted) throw error;
          return { error: asError(error) };
        }
      }),
    );
  }

  /** Sends ids, with fewer new tokens where the context has no room for all that are wanted. */
  async #sendIds(engine: RLSGLangEngine, ids: Int32Array, row: RowRequest): Promise<Generation[]> {
    const send = () => {
      const fewer = this.#limit.fit(ids.length, row.wanted);
      return engine.generate({ inputIds: [ids] }, { ...row.options, ...fewer });
    };
    try {
      return await send();
    } catch (error) {
      if (!this.#limit.learn(error)) throw error;
      return await send();
    }
  }

  /** Sends text and has the server return the ids; an older server is asked to tokenise first. */
  async #sendText(engine: RLSGLangEngine, text: string, row: RowRequest): Promise<Generation[]> {
    const { options, wanted } = row;
    if (this.#canReturnPromptIds) {
      try {
        const request = { ...options, returnPromptIds: true };
        const answers = await engine.generate({ text: [text] }, request);
        if (answers.every(({ promptIds }) => promptIds !== null)) return answers;
      } catch (error) {
        if (this.#limit.learn(error)) {
          const promptTokens = countedTokens(error);
          const fewer = this.#limit.fit(promptTokens ?? Infinity, wanted);
          const request = { ...options, ...fewer, returnPromptIds: true };
          return await engine.generate({ text: [text] }, request);
        }
        if (!(error instanceof UnsupportedError)) throw error;
      }
      this.#doesNotReturnPromptIds();
    }
    const { signal } = options;
    const ids = await engine.tokenize(text, { addSpecialTokens: true, signal });
    return await this.#sendIds(engine, ids, row);
  }

  #doesNotReturnPromptIds(): void {
    if (!this.#canReturnPromptIds) return;
    this.#canReturnPromptIds = false;
    this.settings.logger.info(
      "The server does not return prompt ids; prompts are tokenised first",
    );
  }

  async #readLimit(signal: AbortSignal | undefined): Promise<void> {
    const { logger } = this.settings;
    try {
      const engine = await this.engine();
      for (const { maxInputTokens } of await engine.serverInfo({ signal })) {
        // A prompt of just this length is refused already.
        if (maxInputTokens !== null) this.#limit.limitPrompt(maxInputTokens - 1);
      }
    } catch (error) {
      if (signal?.aborted) throw error;
      logger.info(`The longest prompt is not known until a server tells: ${messageOf(error)}`);
    }
  }

  #startTokenizer(): Promise<Tokenizer> {
    const tokenizer = this.#findTokenizer();
    // The next call tries again.
    tokenizer.catch(() => {
      if (this.#tokenizer === tokenizer) this.#tokenizer = undefined;
    });
    return tokenizer;
  }

  async #findTokenizer(): Promise<Tokenizer> {
    const { tokenizer, logger } = this.settings;
    const { signal } = this.#ended;
    if (typeof tokenizer === "string") {
      return await LocalTokenizer.fromFolder(tokenizer, { signal });
    }
    if (tokenizer !== undefined) return tokenizer;
    const engine = await this.engine();
    const [info] = await engine.modelInfo({ signal });
    const folder = info?.tokenizerPath ?? info?.modelPath ?? "";
    const mayRead = folder !== "" && runtime().isGranted({ name: "read", path: folder });
    if (mayRead) {
      try {
        return await LocalTokenizer.fromFolder(folder, { signal });
      } catch (error) {
        if (!(error instanceof SGLangError) || signal.aborted) throw error;
        logger.info(error.message);
      }
    }
    logger.warn(
      `The tokenizer of ${folder || "the model"} cannot be read here${
        mayRead ? "" : " without permission"
      }; ` +
        "the server tokenises instead. Give a tokenizer to save those requests",
    );
    return new EngineTokenizer(engine, folder);
  }
}

interface SendOptions {
  readonly signal: AbortSignal | undefined;
  readonly wanted: NewTokens;
}

interface RowRequest {
  readonly options: GenerateOptions;
  readonly wanted: NewTokens;
}

const SCORE: NewTokens = { maxNewTokens: 0, minNewTokens: 0 };
