import type { SGLangClient } from "../client/client.ts";
import { CLIENT_OPTION_NAMES, type ClientSettings, clientSettings } from "../client/options.ts";
import { checkVocabulary, holdsIds } from "../client/request.ts";
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
} from "../client/types.ts";
import type { DType } from "../checkpoint/dtype.ts";
import { PausedError, StateError, ValidationError } from "../errors.ts";
import { type Connection, connectServers } from "./connect.ts";
import { checkConcurrency, defaultConcurrency } from "./concurrency.ts";
import { Dispatcher } from "./dispatcher.ts";
import { EngineFleet } from "./fleet.ts";
import { FleetEngine } from "./fleet_engine.ts";
import type { GenerateOptions, WorkerLoad } from "./engine.ts";
import { type Prompt, type PromptList, promptList } from "./prompts.ts";
import {
  checkPrompts,
  type GeneratePlan,
  planGenerate,
  type PlannedRequest,
} from "./generate_plan.ts";
import { type RouterEvent, RouterRoute } from "./router_route.ts";
import { readModelMetadata } from "./model_metadata.ts";
import { FleetSupervisor } from "../fleet/mod.ts";
import { launchServers, type ManagedServers } from "./managed.ts";
import {
  type ConnectOptions,
  type ConnectTarget,
  ENGINE_OPTION_NAMES,
  type EngineOptions,
  type FromPretrainedOptions,
  PRETRAINED_OPTION_NAMES,
} from "./options.ts";
import { type SerializedEngine, withoutKeys } from "./serialized_engine.ts";
import { madeBy } from "./made_by.ts";
import { EngineWeights, type WeightUpdateGroupOptions } from "./weights.ts";
import { EngineSleep, type SleepOptions, type WakeOptions } from "./sleep.ts";
import type { WorkerPool } from "./workers.ts";
import type { ProcessExit } from "../process/mod.ts";
import type { ModelInput } from "../weights/source/mod.ts";
import type { ReceiverUpdate, UpdateWeightsOptions, WeightSyncReport } from "../weights/mod.ts";
import { checkOptionNames, onlyNamed } from "../internal/option_names.ts";

const DEFAULT_SERVING_TIMEOUT_MS = 120_000;

/** What an engine is made of. */
interface EngineParts {
  readonly connection: Connection;
  readonly options: EngineOptions;
  /** Servers and router that this engine started; ended at shutdown. */
  readonly owned?: ManagedServers | undefined;
  /** How the owned servers are supervised, when they are. */
  readonly supervise?: FromPretrainedOptions["supervise"];
}

/** Servers and router that an engine started. */
export interface ManagedFleet {
  /** Each server, with id and log of the process that it has now, or had last. */
  readonly servers: readonly {
    readonly url: string;
    readonly pid: number | undefined;
    readonly logFile: string | undefined;
  }[];
  /** The router, when there is one. */
  readonly router: {
    readonly url: string;
    readonly pid: number | undefined;
    readonly logFile: string | undefined;
    /** Where Prometheus finds its metrics. */
    readonly metricsUrl: string | undefined;
  } | undefined;
  /** Resolves when the present process of the router has ended. */
  readonly routerExited: Promise<ProcessExit> | undefined;
}

/**
 * One or several SGLang servers, with or without the router in front, for reinforcement learning.
 *
 * Generation goes through the router where there is one, everything else to every server. A request
 * that the router would strip goes to a server directly. Batches are sent as separate requests, all
 * at once; the engine keeps their order and limits how many are in flight.
 *
 * {@linkcode AsyncSGLang.connect} needs `--allow-net` for the servers and the router, nothing else.
 *
 * @example
 * ```ts
 * import { AsyncSGLang } from "@sglang-rl/sglang-rl";
 *
 * await using engine = await AsyncSGLang.connect("http://127.0.0.1:30000");
 * const samples = await engine.generate(["One, two,", "Red, green,"], {
 *   n: 4,
 *   maxNewTokens: 16,
 *   returnLogProbs: true,
 * });
 * // 8 samples: four for the first prompt, then four for the second
 * ```
 */
export class AsyncSGLang extends FleetEngine {
  readonly #fleet: EngineFleet;
  readonly #pool: WorkerPool;
  readonly #router: SGLangClient | undefined;
  readonly #dispatcher: Dispatcher;
  readonly #route: RouterRoute | undefined;
  /** Calls that took their seed from the sampling defaults. */
  #calls = 0;
  readonly #sleep: EngineSleep;
  readonly #options: EngineOptions;
  readonly #settings: ClientSettings;
  readonly #clients: AsyncDisposable;
  readonly #owned: ManagedServers | undefined;
  readonly #supervisor: FleetSupervisor | undefined;
  readonly #weights: EngineWeights;
  #vocabSize: number | null | undefined;
  #shutdown: Promise<void> | undefined;

  /** @internal */
  private constructor(parts: EngineParts) {
    const { connection, options } = requireParts(parts);
    const settings = clientSettings({
      ...onlyNamed(options, CLIENT_OPTION_NAMES),
      url: addressOf(connection),
    });
    const fleet = new EngineFleet(connection, options, settings);
    super(fleet);
    this.#fleet = fleet;
    this.#pool = fleet.pool;
    fleet.listen(() => {
      connection.showPresent(fleet.pool.workers);
      this.#dispatcher.maxConcurrency = this.#mostAtOnce();
    });
    this.#router = connection.router;
    this.#clients = connection.clients;
    this.#owned = parts.owned;
    this.#options = options;
    this.#settings = settings;
    this.#weights = new EngineWeights(this, this.#settings.logger);
    this.#sleep = new EngineSleep(this.#pool, this.#settings.clock);
    this.#route = this.#router && new RouterRoute(this.#router, this.#settings);
    this.#dispatcher = new Dispatcher({
      engine: this,
      pool: this.#pool,
      rotation: fleet.rotation,
      servingTimeoutMs: options.servingTimeoutMs ?? DEFAULT_SERVING_TIMEOUT_MS,
      router: this.#router,
      route: this.#route,
      maxConcurrency: this.#mostAtOnce(),
      samplingDefaults: options.samplingDefaults,
      isHealing: () => this.#supervisor !== undefined || this.#pool.hasQuarantined,
      report: (url, outcome) => this.#supervisor?.report(url, outcome),
      logger: this.#settings.logger,
      clock: this.#settings.clock,
    });
    this.#owned?.router?.serve(fleet.rotation, () => this.#route?.lookNow());
    this.#supervisor = this.#supervise(parts);
  }

  /**
   * Connects to running servers: one, several, or those behind a router.
   *
   * @throws {UnreachableError} Nobody answers at an address.
   * @throws {PermissionError} Deno may not connect; `flag` is what to add.
   * @throws {HttpError} A server is not healthy or refuses the key.
   */
  static async connect(target: ConnectTarget, options: ConnectOptions = {}): Promise<AsyncSGLang> {
    checkOptionNames(options, ENGINE_OPTION_NAMES, "AsyncSGLang.connect()");
    checkConcurrency(options);
    const connection = await connectServers(target, options);
    return new AsyncSGLang({ connection, options });
  }

  /**
   * Starts servers for a model, with the router in front of more than one, and connects to them.
   * They end with the engine, and with this Deno process however it ends.
   *
   * Needs `--allow-run=<python>` and `--allow-net=127.0.0.1`.
   *
   * @param model Folder or Hugging Face name.
   * @throws {CrashedError} A server ended before it was ready, with its last lines.
   * @throws {TimeoutError} A server was not ready in time. Nothing is left running.
   */
  static async fromPretrained(
    model: string,
    options: FromPretrainedOptions = {},
  ): Promise<AsyncSGLang> {
    checkOptionNames(options, PRETRAINED_OPTION_NAMES, "AsyncSGLang.fromPretrained()");
    checkConcurrency(options);
    const owned = await launchServers(model, options);
    try {
      const connection = await connectServers(owned.target, options, owned.exits);
      return new AsyncSGLang({ connection, options, owned, supervise: options.supervise ?? true });
    } catch (error) {
      await owned[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Connects again as {@linkcode AsyncSGLang.toJSON} tells; keys are given again. */
  static async fromJSON(
    serialized: SerializedEngine,
    options: ConnectOptions = {},
  ): Promise<AsyncSGLang> {
    if (serialized?.kind !== "AsyncSGLang") {
      throw new ValidationError(`fromJSON() takes what toJSON() gave, got ${typeof serialized}`);
    }
    const { router, workers } = serialized;
    const target = router === null ? workers : { router, workers };
    return await AsyncSGLang.connect(target, { ...serialized.options, ...options });
  }

  /** Address of the router, or of the first server. */
  override get url(): string {
    return this.#router?.url ?? this.#pool.workers[0]!.url;
  }

  /** What keeps managed servers alive; `undefined` for servers of others or `supervise: false`. */
  get supervisor(): FleetSupervisor | undefined {
    return this.#supervisor;
  }

  /** The servers and the router that this engine started; `undefined` for servers of others. */
  get managed(): ManagedFleet | undefined {
    const owned = this.#owned;
    if (owned === undefined) return undefined;
    const { router } = owned;
    return {
      servers: owned.replicas.map(({ url }) => {
        const server = owned.serverAt(url);
        return { url, pid: server?.pid, logFile: server?.logFile };
      }),
      router: router === undefined ? undefined : {
        url: router.url,
        pid: router.pid,
        logFile: router.logFile,
        metricsUrl: router.metricsUrl,
      },
      routerExited: router?.exited,
    };
  }

  /** Requests that the servers have, and those that wait for their turn. */
  get requests(): { readonly inFlight: number; readonly queued: number } {
    return { inFlight: this.#dispatcher.inFlight, queued: this.#dispatcher.queued };
  }

  /** Generates for a list of prompts; {@linkcode AsyncSGLang.generate} gives it its prompts. */
  override async generateAll(
    prompts: PromptList,
    options: GenerateOptions,
  ): Promise<Generation[]> {
    const plan = this.#plan(prompts, options);
    const { sample, adapter } = plan;
    if (sample === undefined) return [];
    using _lease = this.adapters.lease(adapter);
    await this.#checkIds(sample, prompts, options.signal);
    return await this.#dispatcher.generate(plan, options);
  }

  /** TorchRL's name of {@linkcode AsyncSGLang.generate} for several prompts. */
  generateBatch(
    prompts: readonly string[],
    options: GenerateOptions = {},
  ): Promise<Generation[]> {
    return this.generate(prompts, options);
  }

  /** Generates one sample step by step; leaving the loop aborts it on the servers. */
  override async *stream(
    prompt: Prompt,
    options: GenerateOptions = {},
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    const { list } = promptList(typeof prompt === "string" ? prompt : { inputIds: prompt });
    const plan = this.#plan({ list, isList: options.n !== undefined }, options);
    const { sample, total, n, adapter } = plan;
    using _lease = this.adapters.lease(adapter);
    if (sample !== undefined) await this.#checkIds(sample, { list }, options.signal);
    if (n > 1 || total !== 1) {
      throw new ValidationError(`stream() makes one sample of one prompt, got n = ${n}`);
    }
    for await (const delta of this.#dispatcher.stream(plan.request(0), options)) {
      yield delta.final === null ? delta : { ...delta, final: madeBy(adapter, delta.final) };
    }
  }

  /**
   * Aborts requests by id, or all of every client. They end with `finishReason.type` `"abort"` and
   * what they have; those still queued here with nothing.
   */
  override async abort(rids: readonly string[] | "all", options: CallOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#dispatcher.abort(
      rids,
      (ids) => this.#pool.onEvery("abort", ({ client }) => client.abort(ids, options)),
      options.signal,
    );
  }

  /**
   * Calls `listener` when the router is gone (nothing listens at its address), from when on requests
   * go to the servers directly, and when it is back, until disposed. Without a router never.
   */
  onRouterEvent(listener: (event: RouterEvent) => void): Disposable {
    return this.#route?.listen(listener) ?? { [Symbol.dispose]() {} };
  }

  /** Pauses every server; new requests wait until {@linkcode AsyncSGLang.resume}. */
  override async pause(mode: PauseMode, options: CallOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#pool.onEvery("pause", ({ client }) => client.pause(mode, options));
  }

  /** Resumes every server. */
  override async resume(options: CallOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#pool.onEvery("resume", ({ client }) => client.resume(options));
  }

  /**
   * Lets every server free its memory, for a trainer on the same GPU: pauses and aborts what runs,
   * waits until nothing is left, releases. Servers need `--enable-memory-saver`; without it nothing
   * is freed. Requests are refused until {@linkcode AsyncSGLang.wake}.
   *
   * @param options `timeoutMs` limits the wait for what runs; default 60,000.
   * @throws {StateError} It sleeps already.
   * @throws {TimeoutError} Requests did not end; the servers are paused, nothing was released there.
   */
  async sleep(options: SleepOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#sleep.sleep(options);
  }

  /**
   * Takes the memory back that {@linkcode AsyncSGLang.sleep} freed, sends weights, resumes.
   *
   * @throws {StateError} It does not sleep.
   * @throws {ValidationError} Weights were freed and `updateWeights` is missing.
   */
  async wake(options: WakeOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#sleep.wake(options);
  }

  /** Whether the servers sleep. */
  get isAsleep(): boolean {
    return this.#sleep.isAsleep;
  }

  /**
   * Empties the prefix caches; `false` when a server is busy or does not answer.
   *
   * @param options `waitMs`: let the servers wait this long until they are idle (from 0.5.10).
   */
  override async flushCache(
    options: CallOptions & { readonly waitMs?: number | undefined } = {},
  ): Promise<boolean> {
    this.assertOpen();
    const flushed = await this.#pool.onEvery(
      "flush_cache",
      ({ client }) => client.flushCache(options),
    );
    return flushed.every(Boolean);
  }

  /** Whether every server answers and generates. Paused ones turn unhealthy after 20 s. */
  override async health(options: CallOptions = {}): Promise<boolean> {
    this.assertOpen();
    const healthy = await this.#pool.onEvery("health", ({ client }) => client.health(options));
    return healthy.every(Boolean);
  }

  /** Load of every server. */
  override load(options: CallOptions = {}): Promise<WorkerLoad[]> {
    return this.#pool.onEvery("load", async ({ client, url }) => ({
      server: url,
      ...await client.load(options),
    }));
  }

  /** Tensor-parallel size of a server. */
  override getTpSize(): number {
    return this.#pool.workers[0]!.tpSize;
  }

  /** Sum of the servers' data-parallel sizes. */
  override getDpSize(): number {
    return this.#pool.workers.reduce((sum, { dpSize }) => sum + dpSize, 0);
  }

  /**
   * Element type and shape of every weight, read from the headers of the served model's safetensors
   * files. Needs `--allow-read` of their folder.
   *
   * @throws {CheckpointError} The folder is not on this machine: give `modelFolder`.
   */
  override async getModelMetadata(
    options: CallOptions & { readonly modelFolder?: string | undefined } = {},
  ): Promise<Map<string, { dtype: DType; shape: readonly number[] }>> {
    const folder = options.modelFolder ?? this.#options.modelFolder ??
      (await this.#pool.onAny(({ client }) => client.modelInfo(options))).modelPath;
    return await readModelMetadata(folder, options);
  }

  /** What every server reports about itself, without secrets. */
  override serverInfo(options: CallOptions = {}): Promise<ServerInfo[]> {
    return this.#pool.onEvery("server_info", ({ client }) => client.serverInfo(options));
  }

  /** What every server reports about its model, its weight version too. */
  override modelInfo(options: CallOptions = {}): Promise<ModelInfo[]> {
    return this.#pool.onEvery("model_info", ({ client }) => client.modelInfo(options));
  }

  /** Ids of a text by a server's tokenizer. */
  override async tokenize(
    text: string,
    options: CallOptions & { readonly addSpecialTokens?: boolean } = {},
  ): Promise<Int32Array> {
    return await this.#pool.onAny(({ client }) => client.tokenize(text, options));
  }

  /** Text of ids by a server's tokenizer. */
  override async detokenize(
    ids: ArrayLike<number>,
    options: CallOptions & { readonly skipSpecialTokens?: boolean } = {},
  ): Promise<string> {
    return await this.#pool.onAny(({ client }) => client.detokenize(ids, options));
  }

  /** Calls of tools in a text, by a parser of a server. */
  override async parseFunctionCall(
    text: string,
    options: ParseFunctionCallOptions,
  ): Promise<ParsedFunctionCalls> {
    return await this.#pool.onAny(({ client }) => client.parseFunctionCall(text, options));
  }

  /** Takes the thoughts out of a text, by a parser of a server. */
  override async separateReasoning(
    text: string,
    options: SeparateReasoningOptions,
  ): Promise<SeparatedReasoning> {
    return await this.#pool.onAny(({ client }) => client.separateReasoning(text, options));
  }

  /**
   * Opens a group for weight updates over all servers, with this process as rank 0, or, with
   * `masterAddress` and `masterPort`, another process that listens there already. Opened again, it
   * replaces the former group. For more say in it use {@linkcode SGLangWeightSyncScheme}.
   *
   * @throws {WeightSyncError} A server did not join in time.
   */
  async initWeightUpdateGroup(options: WeightUpdateGroupOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#weights.initGroup(options);
  }

  /**
   * Lets every server receive tensors that another process, rank 0 of the group, broadcasts now.
   * Does not pause generation: an unpaused server waits for its running requests first.
   *
   * @throws {StateError} There is no group, or this process is its rank 0.
   * @throws {WeightSyncError} A server refused or did not answer in time.
   */
  async updateWeightsFromDistributed(
    update: ReceiverUpdate,
    options: CallOptions = {},
  ): Promise<void> {
    this.assertOpen();
    await this.#weights.updateFromDistributed(update, options);
  }

  /**
   * Brings new weights to every server, as {@linkcode SGLangWeightSender.updateWeights} does. Empty
   * weights are warned of and send nothing; then the result is `undefined`.
   *
   * @throws {StateError} There is no group, or another process is its rank 0.
   * @throws {WeightSyncError} A server missed the update; tells which and what it holds.
   */
  async updateWeights(
    weights: ModelInput,
    options: UpdateWeightsOptions = {},
  ): Promise<WeightSyncReport | undefined> {
    this.assertOpen();
    return await this.#weights.update(weights, options);
  }

  /** Ends calls under way and whatever this engine started; servers it only uses go on. */
  override shutdown(): Promise<void> {
    return this.#shutdown ??= this.#end();
  }

  /** Addresses and settings to connect again elsewhere: no keys, no ownership of processes. */
  toJSON(): SerializedEngine {
    return {
      kind: "AsyncSGLang",
      router: this.#router?.url ?? null,
      workers: this.#pool.workers.map(({ url }) => url),
      options: withoutKeys(this.#options),
    };
  }

  /** `AsyncSGLang(url='…', model='…', tp=…, dp=…, mode=external)`. */
  override toString(): string {
    const { modelPath } = this.#pool.workers[0]!;
    const mode = this.#owned === undefined ? "external" : "managed";
    return `AsyncSGLang(url='${this.url}', model='${modelPath}', tp=${this.getTpSize()}, ` +
      `dp=${this.getDpSize()}, mode=${mode})`;
  }

  /** The same as {@linkcode AsyncSGLang.toString}. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }

  #plan(prompts: PromptList, options: GenerateOptions): GeneratePlan {
    this.assertOpen();
    if (this.isAsleep) {
      throw new PausedError(
        "The engine sleeps: its servers have given their memory away. Call wake()",
      );
    }
    const { workers } = this.#pool;
    const deterministic = workers.filter((worker) => worker.deterministic).length;
    return planGenerate(prompts, options, {
      adapters: this.adapters,
      samplingDefaults: this.#options.samplingDefaults,
      deterministic: deterministic === 0 ? "none" : deterministic < workers.length ? "some" : "all",
      nextCall: () => this.#calls++,
    });
  }

  /** All ids are checked before any request is sent. */
  async #checkIds(
    { body }: PlannedRequest,
    prompts: Pick<PromptList, "list">,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (!holdsIds(body)) return;
    const vocabSize = await this.#knownVocabSize(signal);
    checkVocabulary(body, vocabSize);
    await checkPrompts(prompts, vocabSize);
    // The engine may have been shut down meanwhile.
    this.assertOpen();
  }

  /** One model, one vocabulary: asked once, of whoever answers. */
  async #knownVocabSize(signal: AbortSignal | undefined): Promise<number | null> {
    this.#vocabSize ??= await this.#pool.onAny(({ client }) => client.vocabSize({ signal }));
    return this.#vocabSize;
  }

  async #end(): Promise<void> {
    // A stack ends in reverse and goes on after a failure: no managed server may be left.
    await using ending = new AsyncDisposableStack();
    if (this.#owned !== undefined) ending.use(this.#owned);
    ending.use(this.#clients);
    // Calls that were ended tell the servers so: leave them the connections until then.
    ending.defer(() => this.#dispatcher.idle());
    ending.defer(() => this.#dispatcher.close());
    ending.defer(() => this.#route?.[Symbol.dispose]());
    ending.use(this.#weights);
    ending.use(this.#fleet);
    if (this.#supervisor !== undefined) ending.use(this.#supervisor);
  }

  #supervise({ owned, supervise = false }: EngineParts): FleetSupervisor | undefined {
    if (owned === undefined || supervise === false) return undefined;
    const { apiKey, headers, proxy, caCerts } = this.#options;
    const { logger, clock } = this.#settings;
    return FleetSupervisor.start(this, {
      apiKey,
      headers,
      proxy,
      caCerts,
      logger,
      clock,
      ...(supervise === true ? {} : supervise),
      servers: owned.replicas,
      router: owned.router,
    });
  }

  #mostAtOnce(): number {
    return this.#options.maxConcurrency ?? defaultConcurrency(this.#pool.workers);
  }

  /** Throws when the engine was shut down. */
  protected override assertOpen(): void {
    if (this.#shutdown !== undefined) throw new StateError("The engine was shut down");
  }
}

function requireParts(parts: EngineParts | undefined): EngineParts {
  if (parts?.connection !== undefined) return parts;
  throw new StateError("Server URL not set. Call AsyncSGLang.connect() or fromPretrained()");
}

function addressOf({ router, workers }: Connection): string {
  return router?.url ?? workers[0]!.url;
}
