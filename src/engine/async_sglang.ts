import type { SGLangClient } from "../client/client.ts";
import { CLIENT_OPTION_NAMES, type ClientSettings, clientSettings } from "../client/options.ts";
import { checkVocabulary, holdsIds } from "../client/request.ts";
import type { CallOptions, Generation, GenerationDelta } from "../client/types.ts";
import { PausedError, StateError, ValidationError } from "../errors.ts";
import { type Connection, connectServers } from "./connect.ts";
import { Dispatcher } from "./dispatcher.ts";
import { EQUAL_PROMPTS_WAIT_MS } from "./equal_prompts.ts";
import { EngineFleet } from "./fleet.ts";
import { FleetEngine } from "./fleet_engine.ts";
import type { GenerateOptions } from "./engine.ts";
import { type Prompt, type PromptList, promptList } from "./prompts.ts";
import {
  checkPrompts,
  type GeneratePlan,
  planGenerate,
  type PlannedRequest,
} from "./generate_plan.ts";
import { type RouterEvent, RouterRoute } from "./router_route.ts";
import { FleetSupervisor } from "../fleet/mod.ts";
import { launchServers, type ManagedFleet, managedFleet, type ManagedServers } from "./managed.ts";
import {
  checkConcurrency,
  type ConnectOptions,
  type ConnectTarget,
  ENGINE_OPTION_NAMES,
  type EngineOptions,
  type FromPretrainedOptions,
  PRETRAINED_OPTION_NAMES,
} from "./options.ts";
import { type SerializedEngine, withoutKeys } from "./serialized_engine.ts";
import { madeBy } from "./make_generation.ts";
import { defaultConcurrency, type WorkerPool } from "./workers.ts";
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
  readonly #options: EngineOptions;
  readonly #settings: ClientSettings;
  readonly #clients: AsyncDisposable;
  readonly #owned: ManagedServers | undefined;
  readonly #supervisor: FleetSupervisor | undefined;
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
    this.#route = this.#router && new RouterRoute(this.#router, this.#settings);
    // Whoever runs a router brings back the servers behind it, or takes others in.
    const isElsewhere = this.#router !== undefined && this.#owned === undefined;
    this.#dispatcher = new Dispatcher({
      engine: this,
      pool: this.#pool,
      rotation: fleet.rotation,
      servingTimeoutMs: options.servingTimeoutMs ?? DEFAULT_SERVING_TIMEOUT_MS,
      equalPromptsWaitMs: options.equalPromptsWaitMs ?? EQUAL_PROMPTS_WAIT_MS,
      router: this.#router,
      route: this.#route,
      maxConcurrency: this.#mostAtOnce(),
      samplingDefaults: options.samplingDefaults,
      followRouter: isElsewhere ? (signal) => fleet.membership.followRouter(signal) : undefined,
      isHealing: () => this.#supervisor !== undefined || this.#pool.hasQuarantined || isElsewhere,
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
    return this.#owned && managedFleet(this.#owned);
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
    ending.defer(() => this.closeWeights());
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
