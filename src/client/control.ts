import { checkCallOptions } from "./call_options.ts";
import { HttpError, TimeoutError, UnreachableError } from "../errors.ts";
import { functionCallQuestion, type ParserQuestion, reasoningQuestion } from "./answer_parsers.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import { type Capabilities, capabilitiesOf, warnOfUntested } from "./capabilities.ts";
import { HttpConnection } from "./http.ts";
import { type ClientSettings, clientSettings, type SGLangClientOptions } from "./options.ts";
import { looksPaused } from "./pause_look.ts";
import { checkIds } from "./request.ts";
import { detokenized, tokenized } from "./schema/info.ts";
import {
  checked,
  parseLoads,
  parseModelInfo,
  parseServerInfo,
  type ServerLoad,
} from "./server_info.ts";
import type {
  CallOptions,
  ModelInfo,
  ParsedFunctionCalls,
  ParseFunctionCallOptions,
  PauseMode,
  SamplingParams,
  SeparatedReasoning,
  SeparateReasoningOptions,
  ServerInfo,
} from "./types.ts";
import { readVocabSize, VOCABULARY_QUESTION } from "./vocabulary.ts";

/** How long an abort of a request that was left early may take. */
const ABANDON_TIMEOUT_MS = 5_000;

/**
 * What inspects and steers one server. Calls that ask are sent again after a lost connection; calls
 * that change the server are sent exactly once.
 */
export abstract class ServerControl implements Disposable, AsyncDisposable {
  /** Address of the server, without a trailing slash. */
  readonly url: string;
  /** @internal */
  protected readonly connection: HttpConnection;
  /** @internal */
  protected readonly settings: ClientSettings;
  readonly #options: SGLangClientOptions;
  #capabilities: Promise<Capabilities> | undefined;
  #vocabSize: Promise<number | null> | undefined;
  readonly #abandoned = new Set<Promise<void>>();
  #isPaused = false;

  /**
   * Makes a client; opens nothing until the first call.
   *
   * @throws {ValidationError} The address or another option is wrong.
   */
  constructor(options: SGLangClientOptions) {
    this.settings = clientSettings(options);
    this.#options = options;
    const { retry: retryPauses, clock, limits } = this.settings;
    this.connection = new HttpConnection({ ...options, clock, limits, retryPauses });
    this.url = this.connection.url;
  }

  /** Whether this client paused the server and has not resumed it. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  /**
   * Whether the server is up and generates: it makes one token for this, which takes a second.
   * `false` too when nobody answers. A paused server turns unhealthy after 20 s.
   */
  health(options: CallOptions = {}): Promise<boolean> {
    return this.#answers("/health", options);
  }

  /**
   * Whether the server generates now, also where it was started so that `/health` makes no token.
   * `false` too when nobody answers in time; give a `timeoutMs` of some seconds.
   */
  generates(options: CallOptions = {}): Promise<boolean> {
    return this.#answers("/health_generate", options);
  }

  /** The same as {@linkcode ServerControl.health}, but throws the reason. */
  async checkHealth(options: CallOptions = {}): Promise<void> {
    await this.get("/health", options);
  }

  /** Whether the server takes requests now: up and not paused. Servers from 0.5.20. */
  ready(options: CallOptions = {}): Promise<boolean> {
    return this.#answers("/ready", options);
  }

  /**
   * Whether the server is paused now, whoever paused it. One that is not says so at once; to find one
   * paused takes one and a half seconds.
   */
  async checkPaused(options: CallOptions = {}): Promise<boolean> {
    const { hasReady } = await this.capabilities(options);
    const call = (signal: AbortSignal) => ({ ...options, signal });
    return await looksPaused({
      ready: hasReady ? (signal) => this.ready(call(signal)) : undefined,
      refused: (signal) => this.ask("/generate", VOCABULARY_QUESTION, call(signal)),
      answers: (signal) => this.modelInfo(call(signal)),
    }, { signal: options.signal, clock: this.clock });
  }

  /** Whether the server's process answers; at once, paused or not. */
  ping(options: CallOptions = {}): Promise<boolean> {
    return this.#answers("/ping", options);
  }

  /** What the server reports about itself, without secrets. */
  async serverInfo(options: CallOptions = {}): Promise<ServerInfo> {
    return parseServerInfo(await this.getJson("/server_info", options));
  }

  /** What the server reports about its model; holds the current weight version. */
  async modelInfo(options: CallOptions = {}): Promise<ModelInfo> {
    return parseModelInfo(await this.getJson("/model_info", options));
  }

  /** Requests that run and wait. */
  async load(options: CallOptions = {}): Promise<ServerLoad> {
    return parseLoads(await this.getJson("/v1/loads", options));
  }

  /** Headers of control calls, for whoever makes some in this client's place: they hold the key. */
  get controlHeaders(): Readonly<Record<string, string>> {
    return this.connection.headersOf("admin");
  }

  /** What the server can do, read once from its version unless it was given. */
  capabilities(options: CallOptions = {}): Promise<Capabilities> {
    const { capabilities } = this.#options;
    if (capabilities !== undefined) return Promise.resolve(capabilities);
    return this.#capabilities ??= this.serverInfo(options).then(
      (info) => {
        warnOfUntested(info.version, this.logger);
        return capabilitiesOf(info.raw);
      },
      (error) => {
        this.#capabilities = undefined;
        throw error;
      },
    );
  }

  /**
   * Vocabulary size, asked of the server once unless it was given; `null` when it does not tell.
   * The question is a request that the server refuses before running it.
   */
  vocabSize(options: CallOptions = {}): Promise<number | null> {
    if (this.#options.vocabSize !== undefined) return Promise.resolve(this.#options.vocabSize);
    return this.#vocabSize ??= this.#askVocabSize(options).catch((error) => {
      this.#vocabSize = undefined;
      throw error;
    });
  }

  /** Ids of a text by the server's tokenizer. */
  async tokenize(
    text: string,
    options: CallOptions & { readonly addSpecialTokens?: boolean | undefined } = {},
  ): Promise<Int32Array> {
    const answer = await this.ask("/tokenize", {
      prompt: text,
      add_special_tokens: options.addSpecialTokens ?? true,
    }, options);
    return Int32Array.from(checked(tokenized, answer, "POST /tokenize").tokens);
  }

  /** Text of ids by the server's tokenizer. */
  async detokenize(
    ids: ArrayLike<number>,
    options: CallOptions & { readonly skipSpecialTokens?: boolean | undefined } = {},
  ): Promise<string> {
    if (ids.length === 0) return "";
    const vocabSize = await this.vocabSize(options);
    const answer = await this.ask("/detokenize", {
      tokens: Array.from(checkIds(ids, { name: "ids", vocabSize })),
      skip_special_tokens: options.skipSpecialTokens ?? true,
    }, options);
    return checked(detokenized, answer, "POST /detokenize").text;
  }

  /**
   * Calls of tools in a text, by a parser of the server. The server reads it in the process that
   * answers HTTP, so others wait meanwhile.
   *
   * @throws {UnsupportedError} Who answers has no such parser at all.
   * @throws {HttpError} 500: the server does not know the parser, or it failed. 400: the parser needs
   * the tokenizer of a model that this server does not serve (0.5.23).
   */
  parseFunctionCall(text: string, options: ParseFunctionCallOptions): Promise<ParsedFunctionCalls> {
    return this.#parse(() => functionCallQuestion(text, options), options);
  }

  /**
   * Takes the thoughts out of a text, by a parser of the server.
   *
   * @throws {UnsupportedError} Who answers has no such parser at all.
   * @throws {HttpError} 500 or 400, as {@linkcode ServerControl.parseFunctionCall}
   */
  separateReasoning(text: string, options: SeparateReasoningOptions): Promise<SeparatedReasoning> {
    return this.#parse(() => reasoningQuestion(text, options), options);
  }

  /**
   * Empties the prefix cache. `false` when the server is busy or does not answer.
   *
   * @param options `waitMs`: wait for it to be idle (from 0.5.10). `mayRefuse`: no warning.
   */
  async flushCache(
    options: CallOptions & { readonly waitMs?: number | undefined; readonly mayRefuse?: true } = {},
  ): Promise<boolean> {
    const { waitMs, mayRefuse, ...call } = options;
    const path = waitMs === undefined ? "/flush_cache" : `/flush_cache?timeout=${waitMs / 1000}`;
    const timeoutMs = options.timeoutMs ?? this.settings.timeoutMs + (waitMs ?? 0);
    try {
      await this.control(path, {}, { ...call, timeoutMs });
      return true;
    } catch (error) {
      if (!isNoAnswer(error)) throw error;
      this.logger[mayRefuse ? "debug" : "warn"](
        `Cache of ${this.url} was not flushed: ${error.message}`,
      );
      return false;
    }
  }

  /** Pauses generation; the server then answers no new request until {@linkcode ServerControl.resume}. */
  async pause(mode: PauseMode, options: CallOptions = {}): Promise<void> {
    // Set first: a pause whose answer is lost may have come through.
    this.#isPaused = true;
    await this.control("/pause_generation", { mode }, options);
  }

  /** Resumes generation; does nothing when not paused. */
  async resume(
    options: CallOptions & { readonly emptyDeviceCache?: boolean | undefined } = {},
  ): Promise<void> {
    const { emptyDeviceCache } = options;
    const body = emptyDeviceCache === undefined ? {} : { torch_empty_cache: emptyDeviceCache };
    await this.control("/continue_generation", body, options);
    this.#isPaused = false;
  }

  /**
   * Aborts requests by id, or all. They end with `finishReason.type` `"abort"`. The server matches
   * ids by prefix, so use ids of one length.
   */
  async abort(rids: readonly string[] | "all", options: CallOptions = {}): Promise<void> {
    if (rids === "all") {
      await this.control("/abort_request", { rid: "", abort_all: true }, options);
      return;
    }
    await Promise.all(
      rids.map((rid) => this.control("/abort_request", { rid, abort_all: false }, options)),
    );
  }

  /** Closes idle connections. Calls under way go on. */
  close(): void {
    this.connection[Symbol.dispose]();
  }

  /** The same as {@linkcode ServerControl.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Waits for the aborts of requests that were left early, at most 5 seconds, and closes. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#abandoned);
    this.close();
    await this.connection.settled();
  }

  /** @internal */
  protected get logger(): Logger {
    return this.settings.logger;
  }

  /** @internal */
  protected get clock(): Clock {
    return this.settings.clock;
  }

  /** @internal */
  protected get samplingDefaults(): SamplingParams {
    return this.settings.samplingDefaults;
  }

  /**
   * Aborts a request that was left early, while the caller goes on: its deadline is over, or it does
   * not care any more. Resolves when that is done; never rejects. @internal
   */
  protected abandonLater(rid: string): Promise<void> {
    const done = this.abandon(rid).finally(() => this.#abandoned.delete(done));
    this.#abandoned.add(done);
    return done;
  }

  /** Aborts a request that was left early; a failure is only logged. @internal */
  protected async abandon(rid: string): Promise<void> {
    try {
      await (this.#options.abandon?.(rid) ??
        this.abort([rid], { timeoutMs: ABANDON_TIMEOUT_MS }));
    } catch (error) {
      this.logger.warn(`Request ${rid} of ${this.url} could not be aborted: ${error}`);
    }
  }

  /** @internal */
  protected get(path: string, options: CallOptions): Promise<{ status: number; text: string }> {
    return this.connection.text(this.#question("GET", path, options));
  }

  /** @internal */
  protected getJson(path: string, options: CallOptions): Promise<unknown> {
    return this.connection.json(this.#question("GET", path, options));
  }

  /** A POST that changes nothing. @internal */
  protected ask(path: string, body: unknown, options: CallOptions): Promise<unknown> {
    return this.connection.json({ ...this.#question("POST", path, options), body: () => body });
  }

  /** A POST that changes the server: sent exactly once. @internal */
  protected async control(path: string, body: unknown, options: CallOptions): Promise<string> {
    checkCallOptions(options);
    const { text } = await this.connection.text({
      method: "POST",
      path,
      body: () => body,
      key: "admin",
      timeoutMs: options.timeoutMs ?? this.settings.controlTimeoutMs,
      signal: options.signal,
      isSentOnce: true,
    });
    return text;
  }

  async #parse<T>(question: () => ParserQuestion<T>, options: CallOptions): Promise<T> {
    const { path, body, read, explain } = question();
    let answer: unknown;
    try {
      answer = await this.ask(path, body, options);
    } catch (error) {
      throw explain(error);
    }
    return read(answer);
  }

  #question(method: "GET" | "POST", path: string, options: CallOptions) {
    checkCallOptions(options);
    return {
      method,
      path,
      timeoutMs: options.timeoutMs ?? this.settings.timeoutMs,
      signal: options.signal,
      retries: this.settings.retry.retries,
    };
  }

  async #answers(path: string, options: CallOptions): Promise<boolean> {
    try {
      await this.connection.text({ ...this.#question("GET", path, options), retries: 0 });
      return true;
    } catch (error) {
      if (!isNoAnswer(error)) throw error;
      return false;
    }
  }

  async #askVocabSize(options: CallOptions): Promise<number | null> {
    let size: number | null = null;
    try {
      await this.ask("/generate", VOCABULARY_QUESTION, options);
    } catch (error) {
      size = readVocabSize(error);
      if (size === null && !(error instanceof HttpError)) throw error;
    }
    if (size === null) {
      this.logger.warn(
        `${this.url} does not tell its vocabulary size: ids too large would end it. ` +
          "Give vocabSize to have them checked",
      );
    }
    return size;
  }
}

function isNoAnswer(error: unknown): error is HttpError | UnreachableError | TimeoutError {
  return error instanceof HttpError || error instanceof TimeoutError ||
    error instanceof UnreachableError;
}
