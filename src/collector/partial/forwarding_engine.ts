import type { DType } from "../../checkpoint/dtype.ts";
import type {
  CallOptions,
  Generation,
  GenerationDelta,
  ModelInfo,
  ParsedFunctionCalls,
  ParseFunctionCallOptions,
  PauseMode,
  SeparatedReasoning,
  SeparateReasoningOptions,
  ServerInfo,
} from "../../client/types.ts";
import {
  type EngineWorker,
  type GenerateOptions,
  RLSGLangEngine,
  type WorkerLoad,
} from "../../engine/engine.ts";
import type { Prompt, PromptList } from "../../engine/prompts.ts";

/** An engine that hands every call on to another, which it borrows. A subclass changes some. */
export abstract class ForwardingEngine extends RLSGLangEngine {
  readonly #inner: RLSGLangEngine;

  /** Stands in front of `inner`. */
  constructor(inner: RLSGLangEngine) {
    super();
    this.#inner = inner;
  }

  /** The engine beneath. */
  get inner(): RLSGLangEngine {
    return this.#inner;
  }

  /** Address of the engine beneath. */
  override get url(): string {
    return this.#inner.url;
  }

  /** Servers of the engine beneath. */
  override get workers(): readonly EngineWorker[] {
    return this.#inner.workers;
  }

  /** Generates with the engine beneath. */
  override generateAll(prompts: PromptList, options: GenerateOptions): Promise<Generation[]> {
    return this.#inner.generateAll(prompts, options);
  }

  /** Streams from the engine beneath. */
  override stream(prompt: Prompt, options?: GenerateOptions): AsyncGenerator<GenerationDelta> {
    return this.#inner.stream(prompt, options);
  }

  /** Aborts requests of the engine beneath. */
  override abort(rids: readonly string[] | "all", options?: CallOptions): Promise<void> {
    return this.#inner.abort(rids, options);
  }

  /** Pauses the engine beneath. */
  override pause(mode: PauseMode, options?: CallOptions): Promise<void> {
    return this.#inner.pause(mode, options);
  }

  /** Resumes the engine beneath. */
  override resume(options?: CallOptions): Promise<void> {
    return this.#inner.resume(options);
  }

  /** Drops the prefix caches of the engine beneath. */
  override flushCache(options?: CallOptions): Promise<boolean> {
    return this.#inner.flushCache(options);
  }

  /** Whether every server of the engine beneath generates. */
  override health(options?: CallOptions): Promise<boolean> {
    return this.#inner.health(options);
  }

  /** How busy each server is. */
  override load(options?: CallOptions): Promise<WorkerLoad[]> {
    return this.#inner.load(options);
  }

  /** GPUs that share one model. */
  override getTpSize(): number {
    return this.#inner.getTpSize();
  }

  /** Copies of the model within a server. */
  override getDpSize(): number {
    return this.#inner.getDpSize();
  }

  /** Type and shape of every weight, by name. */
  override getModelMetadata(
    options?: CallOptions,
  ): Promise<Map<string, { dtype: DType; shape: readonly number[] }>> {
    return this.#inner.getModelMetadata(options);
  }

  /** Every server's description of itself. */
  override serverInfo(options?: CallOptions): Promise<ServerInfo[]> {
    return this.#inner.serverInfo(options);
  }

  /** What every server says of its model. */
  override modelInfo(options?: CallOptions): Promise<ModelInfo[]> {
    return this.#inner.modelInfo(options);
  }

  /** Token ids of a text. */
  override tokenize(
    text: string,
    options?: CallOptions & { addSpecialTokens?: boolean },
  ): Promise<Int32Array> {
    return this.#inner.tokenize(text, options);
  }

  /** Text of token ids. */
  override detokenize(
    ids: ArrayLike<number>,
    options?: CallOptions & { skipSpecialTokens?: boolean },
  ): Promise<string> {
    return this.#inner.detokenize(ids, options);
  }

  /** Calls of tools in a text. */
  override parseFunctionCall(
    text: string,
    options: ParseFunctionCallOptions,
  ): Promise<ParsedFunctionCalls> {
    return this.#inner.parseFunctionCall(text, options);
  }

  /** The thoughts of a text, and the rest. */
  override separateReasoning(
    text: string,
    options: SeparateReasoningOptions,
  ): Promise<SeparatedReasoning> {
    return this.#inner.separateReasoning(text, options);
  }

  /** Does nothing: the engine beneath belongs to its maker. */
  override async shutdown(): Promise<void> {}
}
