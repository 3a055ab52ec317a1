import type {
  CallOptions,
  GenerateRequest,
  Generation,
  GenerationDelta,
  GenerationWithLogProbs,
  ModelInfo,
  ParsedFunctionCalls,
  ParseFunctionCallOptions,
  PauseMode,
  SamplingInput,
  SeparatedReasoning,
  SeparateReasoningOptions,
  ServerInfo,
} from "../client/types.ts";
import type { DType } from "../checkpoint/dtype.ts";
import { UnsupportedError } from "../errors.ts";
import {
  type ManyPrompts,
  type OnePrompt,
  type Prompt,
  type PromptFields,
  type PromptList,
  promptList,
} from "./prompts.ts";

/**
 * Options of {@linkcode RLSGLangEngine.generate}. Sampling parameters may be given directly or in
 * `samplingParams`; one given directly wins.
 */
export interface GenerateOptions
  extends CallOptions, Omit<GenerateRequest, "text" | "inputIds" | "rid">, SamplingInput {
  /** How to sample. */
  readonly samplingParams?: SamplingInput | undefined;
  /** Request ids, one for each prompt. Default fresh UUIDs. */
  readonly rids?: readonly string[] | undefined;
  /** Called as each prompt is done. */
  readonly onProgress?: ((progress: { done: number; total: number }) => void) | undefined;
}

/** Load of one server. */
export interface WorkerLoad {
  /** Address of the server. */
  readonly server: string;
  /** Requests that run. */
  readonly running: number;
  /** Requests that wait. */
  readonly waiting: number;
  /** Tokens per second, when the server tells it. */
  readonly tokensPerSecond: number | null;
  /** Share of the KV pool in use, when the server tells it. */
  readonly tokenUsage: number | null;
}

/** A server of an engine, as weight sync and control calls see it. */
export interface EngineWorker {
  /** Address of the server. */
  readonly url: string;
  /** Tensor-parallel ranks of the server. */
  readonly tpSize: number;
}

/**
 * What a policy, a collector and the weight sync need of an engine. {@linkcode AsyncSGLang} is the
 * implementation for SGLang; the wrapper and the collector take any. An engine of your own has what
 * is abstract here; the rest has a default, which for what only servers can do is an
 * {@linkcode UnsupportedError}.
 *
 * `examples/own_engine.ts` is a whole one.
 */
export abstract class RLSGLangEngine implements AsyncDisposable {
  /** Address of the router, or of the only server. */
  abstract readonly url: string;
  /** The servers behind it; an engine without servers has none. */
  abstract readonly workers: readonly EngineWorker[];

  /**
   * Generates for a list of prompts: what {@linkcode RLSGLangEngine.generate} is made of. Gives
   * `options.n` samples (default 1) for each prompt, prompt by prompt.
   */
  abstract generateAll(prompts: PromptList, options: GenerateOptions): Promise<Generation[]>;
  /** Ids of a text by the server's tokenizer. */
  abstract tokenize(
    text: string,
    options?: CallOptions & { addSpecialTokens?: boolean },
  ): Promise<Int32Array>;
  /** Text of ids by the server's tokenizer. */
  abstract detokenize(
    ids: ArrayLike<number>,
    options?: CallOptions & { skipSpecialTokens?: boolean },
  ): Promise<string>;

  /** Generates for several prompts, all at once, with log-probabilities. */
  generate(
    prompts: ManyPrompts,
    options: GenerateOptions & { readonly returnLogProbs: true },
  ): Promise<GenerationWithLogProbs[]>;
  /** Generates for several prompts, all at once; `n` samples for each, prompt by prompt. */
  generate(prompts: ManyPrompts, options?: GenerateOptions): Promise<Generation[]>;
  /** Generates `n` samples for one prompt, with log-probabilities. */
  generate(
    prompt: OnePrompt,
    options: GenerateOptions & { readonly n: number; readonly returnLogProbs: true },
  ): Promise<GenerationWithLogProbs[]>;
  /** Generates `n` samples for one prompt: a list whenever `n` is given, even 1. */
  generate(
    prompt: OnePrompt,
    options: GenerateOptions & { readonly n: number },
  ): Promise<Generation[]>;
  /** Generates one sample for one prompt, with log-probabilities. */
  generate(
    prompt: OnePrompt,
    options: GenerateOptions & { readonly n?: undefined; readonly returnLogProbs: true },
  ): Promise<GenerationWithLogProbs>;
  /**
   * Generates one sample for one prompt.
   *
   * @param options `timeoutMs` limits the whole call, its time in the queue too; default none beside
   * `generateTimeoutMs` of each request.
   * @throws {ValidationError} A prompt or an option is wrong; nothing was sent.
   * @throws {PartialResultError} A server refused some of the prompts: `failures` names them by index,
   * `partial` has the samples of the others.
   * @throws {HttpError} A server refused the only prompt, or all; or it failed, and the other requests
   * of the call were aborted.
   * @throws {TimeoutError} The deadline passed; what ran was aborted on the servers.
   * @throws {CrashedError} Every managed server has ended.
   */
  generate(
    prompt: OnePrompt,
    options?: GenerateOptions & { readonly n?: undefined },
  ): Promise<Generation>;
  /** Generates for what is known only at run time; one prompt without `n` gives one sample. */
  generate(
    prompts: string | readonly string[] | PromptFields,
    options?: GenerateOptions,
  ): Promise<Generation | Generation[]>;
  async generate(
    prompts: string | readonly string[] | PromptFields,
    options: GenerateOptions = {},
  ): Promise<Generation | Generation[]> {
    const { list, isList } = promptList(prompts);
    const wantsList = isList || options.n !== undefined;
    const samples = await this.generateAll({ list, isList: wantsList }, options);
    return wantsList ? samples : samples[0]!;
  }

  /**
   * Generates for one prompt as an async iterator of steps; the last has `final` set. Default: one
   * step with all.
   */
  async *stream(prompt: Prompt, options: GenerateOptions = {}): AsyncGenerator<GenerationDelta> {
    const [final] = await this.generateAll({ list: [prompt], isList: false }, options);
    const { text, ids, logProbs } = final!;
    yield { text: text ?? "", ids, logProbs, final: final! };
  }

  /** Aborts requests by id, or all of them. */
  abort(_rids: readonly string[] | "all", _options?: CallOptions): Promise<void> {
    return this.#unsupported("abort requests");
  }
  /** Pauses generation on every server. */
  pause(_mode: PauseMode, _options?: CallOptions): Promise<void> {
    return this.#unsupported("pause");
  }
  /** Resumes generation on every server. */
  resume(_options?: CallOptions): Promise<void> {
    return this.#unsupported("resume");
  }
  /** Empties the prefix caches; `false` when a server refused or did not answer. */
  flushCache(_options?: CallOptions): Promise<boolean> {
    return this.#unsupported("empty prefix caches");
  }
  /** Whether every server answers and is ready. Default: true. */
  health(_options?: CallOptions): Promise<boolean> {
    return Promise.resolve(true);
  }
  /** Load of every server. Default: none is known. */
  load(_options?: CallOptions): Promise<WorkerLoad[]> {
    return Promise.resolve([]);
  }
  /** Tensor-parallel size of a server. */
  getTpSize(): number {
    return this.workers[0]?.tpSize ?? 1;
  }
  /** Number of replicas times their data-parallel size. */
  getDpSize(): number {
    return Math.max(1, this.workers.length);
  }
  /** Element type and shape of every weight, by name. */
  getModelMetadata(
    _options?: CallOptions,
  ): Promise<Map<string, { dtype: DType; shape: readonly number[] }>> {
    return this.#unsupported("list the model's weights");
  }
  /** What every server reports about itself, without secrets. Default: nothing. */
  serverInfo(_options?: CallOptions): Promise<ServerInfo[]> {
    return Promise.resolve([]);
  }
  /** What every server reports about its model. Default: nothing; give the wrapper a tokenizer. */
  modelInfo(_options?: CallOptions): Promise<ModelInfo[]> {
    return Promise.resolve([]);
  }
  /** Calls of tools in a text, by a parser of a server. */
  parseFunctionCall(
    _text: string,
    _options: ParseFunctionCallOptions,
  ): Promise<ParsedFunctionCalls> {
    return this.#unsupported("read calls of tools");
  }
  /** Takes the thoughts out of a text, by a parser of a server. */
  separateReasoning(
    _text: string,
    _options: SeparateReasoningOptions,
  ): Promise<SeparatedReasoning> {
    return this.#unsupported("take thoughts out of a text");
  }
  /** Ends everything that this engine owns; safe to call twice. */
  async shutdown(): Promise<void> {}

  /** The same as {@linkcode RLSGLangEngine.shutdown}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  #unsupported(what: string): Promise<never> {
    const name = this.constructor.name;
    return Promise.reject(
      new UnsupportedError(`${name} cannot ${what}: it has no method of its own for it`),
    );
  }
}
