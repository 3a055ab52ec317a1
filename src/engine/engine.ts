import type {
  CallOptions,
  GenerateRequest,
  Generation,
  GenerationDelta,
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

/** One prompt: text or token ids. */
export type Prompt = string | ArrayLike<number>;

/** Prompts by field; exactly one of the two is given. */
export interface PromptFields {
  /** One text or several. */
  readonly text?: string | readonly string[] | undefined;
  /** One list of ids or several. */
  readonly inputIds?: ArrayLike<number> | readonly ArrayLike<number>[] | undefined;
}

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
 * implementation for SGLang; the wrapper and the collector take any.
 */
export abstract class RLSGLangEngine implements AsyncDisposable {
  /** Address of the router, or of the only server. */
  abstract readonly url: string;
  /** The servers behind it. */
  abstract readonly workers: readonly EngineWorker[];

  /** Generates one sample for one prompt. */
  abstract generate(
    prompt: string,
    options?: GenerateOptions & { readonly n?: undefined },
  ): Promise<Generation>;
  /** Generates `n` samples for one prompt: a list whenever `n` is given, even 1. */
  abstract generate(
    prompt: string,
    options: GenerateOptions & { readonly n: number },
  ): Promise<Generation[]>;
  /** Generates for several prompts, all at once; `n` samples for each, prompt by prompt. */
  abstract generate(
    prompts: readonly string[],
    options?: GenerateOptions,
  ): Promise<Generation[]>;
  /** Generates from text or ids by field; one prompt gives one sample, a list gives a list. */
  abstract generate(
    prompts: PromptFields,
    options?: GenerateOptions,
  ): Promise<Generation | Generation[]>;
  /** Generates for what is known only at run time; one prompt without `n` gives one sample. */
  abstract generate(
    prompts: string | readonly string[] | PromptFields,
    options?: GenerateOptions,
  ): Promise<Generation | Generation[]>;

  /** Generates for one prompt as an async iterator of steps; the last has `final` set. */
  abstract stream(
    prompt: Prompt,
    options?: GenerateOptions,
  ): AsyncIterableIterator<GenerationDelta>;

  /** Aborts requests by id, or all of them. */
  abstract abort(rids: readonly string[] | "all", options?: CallOptions): Promise<void>;
  /** Pauses generation on every server. */
  abstract pause(mode: PauseMode, options?: CallOptions): Promise<void>;
  /** Resumes generation on every server. */
  abstract resume(options?: CallOptions): Promise<void>;
  /** Empties the prefix caches; `false` when a server refused or did not answer. */
  abstract flushCache(options?: CallOptions): Promise<boolean>;
  /** Whether every server answers and is ready. */
  abstract health(options?: CallOptions): Promise<boolean>;
  /** Load of every server. */
  abstract load(options?: CallOptions): Promise<WorkerLoad[]>;
  /** Tensor-parallel size of a server. */
  abstract getTpSize(): number;
  /** Number of replicas times their data-parallel size. */
  abstract getDpSize(): number;
  /** Element type and shape of every weight, by name. */
  abstract getModelMetadata(
    options?: CallOptions,
  ): Promise<Map<string, { dtype: DType; shape: readonly number[] }>>;
  /** What every server reports about itself, without secrets. */
  abstract serverInfo(options?: CallOptions): Promise<ServerInfo[]>;
  /** What every server reports about its model. */
  abstract modelInfo(options?: CallOptions): Promise<ModelInfo[]>;
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
  /** Calls of tools in a text, by a parser of a server. */
  abstract parseFunctionCall(
    text: string,
    options: ParseFunctionCallOptions,
  ): Promise<ParsedFunctionCalls>;
  /** Takes the thoughts out of a text, by a parser of a server. */
  abstract separateReasoning(
    text: string,
    options: SeparateReasoningOptions,
  ): Promise<SeparatedReasoning>;
  /** Ends everything that this engine owns; safe to call twice. */
  abstract shutdown(): Promise<void>;

  /** The same as {@linkcode RLSGLangEngine.shutdown}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }
}
