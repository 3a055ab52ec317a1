import type { FleetAdapters } from "../adapters/fleet_adapters.ts";
import type { DType } from "../checkpoint/dtype.ts";
import type {
  CallOptions,
  ModelInfo,
  ParsedFunctionCalls,
  ParseFunctionCallOptions,
  PauseMode,
  SeparatedReasoning,
  SeparateReasoningOptions,
  ServerInfo,
} from "../client/types.ts";
import { StateError } from "../errors.ts";
import { canonicalUrl } from "../internal/canonical_url.ts";
import { RLSGLangEngine, type WorkerLoad } from "./engine.ts";
import type { EngineFleet } from "./fleet.ts";
import type { Member, WorkerEvent } from "./member.ts";
import type { AddWorkerOptions, RefitOptions, RemoveWorkerOptions } from "./membership.ts";
import { readModelMetadata } from "./model_metadata.ts";
import { EngineSleep, type SleepOptions, type WakeOptions } from "./sleep.ts";
import { EngineWeights, type WeightUpdateGroupOptions } from "./weights.ts";
import type { SGLangWorker } from "./workers.ts";
import type { ModelInput } from "../weights/source/mod.ts";
import type {
  FleetSync,
  ReceiverUpdate,
  UpdateWeightsOptions,
  VersionLedger,
  WeightSyncReport,
} from "../weights/mod.ts";

/**
 * An engine whose servers come and go: what {@linkcode AsyncSGLang} can do with the list of its
 * servers, and what it asks all of them or whichever answers. A server gets requests only while its weights are the fleet's; `docs/engine.md` has the
 * table of states.
 */
export abstract class FleetEngine extends RLSGLangEngine {
  readonly #fleet: EngineFleet;
  readonly #sleep: EngineSleep;
  readonly #weights: EngineWeights;

  /** @internal */
  constructor(fleet: EngineFleet) {
    super();
    this.#fleet = fleet;
    this.#sleep = new EngineSleep(fleet.pool, fleet.clock);
    this.#weights = new EngineWeights(this, fleet.logger);
  }

  /** The servers, each with a client for calls to it alone and where it stands. */
  override get workers(): readonly SGLangWorker[] {
    return this.#fleet.pool.workers;
  }

  /** The servers that weight syncs are for: not those that leave or are brought up to date alone. */
  get syncWorkers(): readonly SGLangWorker[] {
    return this.#fleet.membership.forSync;
  }

  /** The LoRA adapters of the servers: which there are, and which runs with what. */
  get adapters(): FleetAdapters {
    return this.#fleet.adapters;
  }

  /** The names of the fleet's weights. */
  get versions(): VersionLedger {
    return this.#fleet.ledger;
  }

  /**
   * Compares the list of servers with the router's and asks every server what it holds: new ones are
   * taken in, those that the router has no more are forgotten, those whose weights are not the
   * fleet's get no requests until they are brought up to date, which is done where the last sync's
   * weights came from files. The engine does this by itself every `membershipMs` and before each
   * sync. A server or router that does not answer is passed over.
   */
  async refreshWorkers(options: CallOptions = {}): Promise<readonly SGLangWorker[]> {
    this.assertOpen();
    await this.#fleet.refresh(options);
    return this.workers;
  }

  /**
   * Takes a server in. One that was not in the last sync is brought up to date first, alone and
   * while the others serve, then it gets requests, also from the router. Where there is nothing to
   * bring (the last sync's weights are gone and no `source` is given) it waits as `"quarantined"`
   * for the next sync.
   *
   * @throws {UnreachableError} Nobody answers at the address.
   * @throws {ValidationError} It serves another model.
   * @throws {WeightSyncError} It could not be brought up to date; it stays, out of rotation.
   */
  async addWorker(url: string, options: AddWorkerOptions = {}): Promise<SGLangWorker> {
    this.assertOpen();
    return await this.#fleet.membership.add(url, options);
  }

  /**
   * Lets a server go: it gets no new requests, also from the router, its requests may end within
   * `drainMs`, then it is forgotten. The server itself goes on.
   *
   * @throws {StateError} It is not there, or it is the last one.
   */
  async removeWorker(url: string, options: RemoveWorkerOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#fleet.membership.remove(this.#member(url), options);
  }

  /**
   * Brings the fleet's weights to one server, alone and while the others serve, and lets it serve.
   *
   * @throws {StateError} It is not there, or there is nothing to bring it.
   * @throws {WeightSyncError} It did not work; the server stays out of rotation.
   */
  async refitWorker(url: string, options: RefitOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#fleet.membership.refit(this.#member(url), options);
  }

  /**
   * Takes a server out of rotation until a sync or {@linkcode FleetEngine.refitWorker} reached it,
   * whatever it says of its weights, and also with `quarantine: false`. One that is started again is
   * judged by its weights.
   *
   * @throws {StateError} It is not there.
   */
  async quarantineWorker(url: string, reason: string): Promise<void> {
    this.assertOpen();
    await this.#fleet.rotation.hold(this.#member(url), reason);
  }

  /**
   * Says that another process has brought these weights to the servers. From then on a server with
   * others gets no requests. Not needed where this process syncs.
   */
  async tellVersion(version: string, options: CallOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#fleet.tellVersion(version, options);
  }

  /**
   * Asks the servers that serve, but for one, which weights they hold now.
   *
   * @internal
   */
  async askOthers(url: string, options: Pick<CallOptions, "signal">): Promise<(string | null)[]> {
    const member = this.#fleet.pool.find(canonicalUrl(url));
    return await this.#fleet.rotation.askOthers(member, options.signal);
  }

  /** Calls `listener` whenever a server goes from one state to another, until disposed. */
  onWorkerEvent(listener: (event: WorkerEvent) => void): Disposable {
    return this.#fleet.listen(listener);
  }

  /** Pauses every server; new requests wait until {@linkcode AsyncSGLang.resume}. */
  override async pause(mode: PauseMode, options: CallOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#fleet.pool.onEvery("pause", ({ client }) => client.pause(mode, options));
  }

  /** Resumes every server. */
  override async resume(options: CallOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#fleet.pool.onEvery("resume", ({ client }) => client.resume(options));
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
    const flushed = await this.#fleet.pool.onEvery(
      "flush_cache",
      ({ client }) => client.flushCache(options),
    );
    return flushed.every(Boolean);
  }

  /** Whether every server answers and generates. Paused ones turn unhealthy after 20 s. */
  override async health(options: CallOptions = {}): Promise<boolean> {
    this.assertOpen();
    const healthy = await this.#fleet.pool.onEvery(
      "health",
      ({ client }) => client.health(options),
    );
    return healthy.every(Boolean);
  }

  /** Load of every server. */
  override load(options: CallOptions = {}): Promise<WorkerLoad[]> {
    return this.#fleet.pool.onEvery("load", async ({ client, url }) => ({
      server: url,
      ...await client.load(options),
    }));
  }

  /** Tensor-parallel size of a server. */
  override getTpSize(): number {
    return this.#fleet.pool.workers[0]!.tpSize;
  }

  /** Sum of the servers' data-parallel sizes. */
  override getDpSize(): number {
    return this.#fleet.pool.workers.reduce((sum, { dpSize }) => sum + dpSize, 0);
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
    const folder = options.modelFolder ?? this.#fleet.modelFolder ??
      (await this.#fleet.pool.onAny(({ client }) => client.modelInfo(options))).modelPath;
    return await readModelMetadata(folder, options);
  }

  /** What every server reports about itself, without secrets. */
  override serverInfo(options: CallOptions = {}): Promise<ServerInfo[]> {
    return this.#fleet.pool.onEvery("server_info", ({ client }) => client.serverInfo(options));
  }

  /** What every server reports about its model, its weight version too. */
  override modelInfo(options: CallOptions = {}): Promise<ModelInfo[]> {
    return this.#fleet.pool.onEvery("model_info", ({ client }) => client.modelInfo(options));
  }

  /** Ids of a text by a server's tokenizer. */
  override async tokenize(
    text: string,
    options: CallOptions & { readonly addSpecialTokens?: boolean } = {},
  ): Promise<Int32Array> {
    return await this.#fleet.pool.onAny(({ client }) => client.tokenize(text, options));
  }

  /** Text of ids by a server's tokenizer. */
  override async detokenize(
    ids: ArrayLike<number>,
    options: CallOptions & { readonly skipSpecialTokens?: boolean } = {},
  ): Promise<string> {
    return await this.#fleet.pool.onAny(({ client }) => client.detokenize(ids, options));
  }

  /** Calls of tools in a text, by a parser of a server. */
  override async parseFunctionCall(
    text: string,
    options: ParseFunctionCallOptions,
  ): Promise<ParsedFunctionCalls> {
    return await this.#fleet.pool.onAny(({ client }) => client.parseFunctionCall(text, options));
  }

  /** Takes the thoughts out of a text, by a parser of a server. */
  override async separateReasoning(
    text: string,
    options: SeparateReasoningOptions,
  ): Promise<SeparatedReasoning> {
    return await this.#fleet.pool.onAny(({ client }) => client.separateReasoning(text, options));
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

  /** A sync is about to read the list of servers; for weight sync. @internal */
  async syncBegins(call: { readonly signal?: AbortSignal | undefined }): Promise<void> {
    await this.#fleet.membership.syncBegins(call.signal);
  }

  /** A sync has ended; for weight sync. @internal */
  async syncEnded(sync: FleetSync): Promise<void> {
    await this.#fleet.syncEnded(sync);
  }

  /** Lets the servers leave the group for weight updates. */
  protected async closeWeights(): Promise<void> {
    await this.#weights[Symbol.asyncDispose]();
  }

  /** Throws when the engine was shut down. */
  protected abstract assertOpen(): void;

  #member(url: string): Member {
    const member = this.#fleet.pool.find(canonicalUrl(url));
    if (member !== undefined) return member;
    const urls = this.workers.map((worker) => worker.url).join(", ");
    throw new StateError(`${url} is no server of this engine; it has ${urls}`);
  }
}
