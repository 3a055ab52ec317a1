import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { DType } from "../checkpoint/dtype.ts";
import { StateError } from "../errors.ts";
import { type Facts, isObserved, observed, tell } from "../internal/observe.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { tellCollectors, type VersionedCollector } from "./collectors.ts";
import type { ReceiverCall } from "./fleet/fleet.ts";
import type { FleetServer, WeightServerState } from "./fleet/server.ts";
import { fleetOf, givenTo, optionsOf, type SGLangWeightReceiver } from "./receiver.ts";
import { closeOnSignals } from "./signals.ts";
import { castToBFloat16 } from "./source/cast.ts";
import { type ModelInput, ModelSlot, toSource } from "./source/input.ts";
import type { WeightSource } from "./source/source.ts";
import { stepFailed } from "./sync/failure.ts";
import { checkSource, type WeightCheck } from "./sync/check.ts";
import type { ModelMetadata } from "./sync/names.ts";
import { Part, type WeightPattern } from "./sync/part.ts";
import { type OnProgress, Steps } from "./sync/progress.ts";
import type { WeightSyncReport } from "./sync/report.ts";
import { runSync } from "./sync/run.ts";
import { warmChecksums } from "./sync/warm.ts";
import {
  chooseTransport,
  makeTransport,
  type Transport,
  type TransportChoice,
} from "./transport/transport.ts";
import { checkName, VersionLedger } from "./version_ledger.ts";
import { runtime } from "../runtime/mod.ts";

/** Options of {@linkcode SGLangWeightSender.updateWeights}. */
export interface UpdateWeightsOptions {
  /** Cancels the sync; servers that hold the old weights resume. */
  readonly signal?: AbortSignal | undefined;
  /** Called as it goes on; {@linkcode progressBar} makes one. */
  readonly onProgress?: OnProgress | undefined;
  /**
   * The servers' new weight version. Default: the next number, from 1. A name that other weights had
   * gets the id of the sync behind it, and the report tells what it became.
   */
  readonly version?: string | undefined;
  /**
   * Sends only the tensors with such names: a text in which `*` stands for any characters, a RegExp, or
   * a list of these. All of the model's weights with such names must be there; others stay behind. The
   * servers must hold the same weights whole, and the report's `part` tells which. Default: all.
   */
  readonly only?: WeightPattern | readonly WeightPattern[] | undefined;
}

const UPDATE_NAMES = {
  only: true,
  signal: true,
  onProgress: true,
  version: true,
} as const satisfies OptionNames<UpdateWeightsOptions>;

/** What a trainer declares of its weights: element type and shape by name. */
export type DeclaredMetadata =
  | ModelMetadata
  | Readonly<Record<string, { readonly dtype: DType; readonly shape: readonly number[] }>>;

/**
 * The trainer's side of weight sync: rank 0. Made by {@linkcode SGLangWeightSyncScheme.createSender}.
 *
 * Every wait has a deadline, and whatever fails, the servers are let go: see `docs/weights.md`.
 */
export class SGLangWeightSender implements AsyncDisposable {
  readonly #receiver: SGLangWeightReceiver;
  readonly #model = new ModelSlot();
  readonly #collectors = new Set<VersionedCollector>();
  readonly #turn = new Semaphore(1);
  readonly #owner: string;
  readonly #versions = new VersionLedger();
  readonly #closing = new AbortController();
  #declared: ModelMetadata | undefined;
  #transport: { choice: TransportChoice; transport: Transport } | undefined;
  #isReady = false;
  #handlers: Disposable | undefined;

  /** Use {@linkcode SGLangWeightSyncScheme.createSender}. @internal */
  constructor(receiver: SGLangWeightReceiver) {
    this.#receiver = receiver;
    const { trainer = `pid-${runtime().pid}` } = optionsOf(receiver);
    this.#owner = `${trainer}-${crypto.randomUUID().slice(0, 8)}`;
  }

  /** The servers' side. */
  get receiver(): SGLangWeightReceiver {
    return this.#receiver;
  }

  /** What is known of every server. */
  get servers(): readonly WeightServerState[] {
    return this.#receiver.servers;
  }

  /** The transport in use and why it was picked; `undefined` before the servers are known. */
  get transport(): TransportChoice | undefined {
    return this.#transport?.choice;
  }

  /** Whether the way to the servers is open. */
  checkConnection(): boolean {
    return this.#transport?.transport.isConnected ?? false;
  }

  /**
   * Sets whose weights `updateWeights()` sends: a {@linkcode WeightSource}, a state dict, nested
   * weights, an object with a `stateDict()` method, or a `WeakRef` to one of these.
   */
  registerModel(model: ModelInput | WeakRef<ModelInput & WeakKey>): void {
    this.#model.set(model);
  }

  /** Adds somebody to be told after every sync, and now what syncs do with running requests. */
  registerCollector(collector: VersionedCollector): void {
    this.#collectors.add(collector);
    collector.expectPauseMode?.(optionsOf(this.#receiver).pauseMode);
  }

  /**
   * Finds the servers and opens the way to them.
   *
   * @param metadata The trainer's weights. Later syncs must have these with just these types and
   * shapes; others of theirs stay behind. Default: checked with the servers' own checkpoint.
   * @throws {StateError} This process is not rank 0.
   * @throws {WeightSyncError} A server failed in phase `"probe"` or `"init"`.
   */
  async initAllWorkersGroup(
    metadata?: DeclaredMetadata,
    call: ReceiverCall = {},
  ): Promise<void> {
    const options = optionsOf(this.#receiver);
    if (options.rank !== 0) {
      throw new StateError(
        `Only rank 0 opens the group and sends weights; this is rank ${options.rank}`,
      );
    }
    using _turn = await this.#takeTurn("initAllWorkersGroup", call.signal);
    this.#declared = metadata === undefined
      ? undefined
      : metadata instanceof Map
      ? metadata
      : new Map(Object.entries(metadata));
    const signal = this.#untilClosed(call.signal);
    await this.#receiver.probe({ signal });
    const servers = fleetOf(this.#receiver).participants;
    const transport = await this.#transportFor(servers);
    this.#isReady = true;
    const steps = new Steps({ logger: options.logger });
    const link = { servers, step: steps.run.bind(steps), signal };
    try {
      await transport.connect(link);
      if (servers.every(({ toleratesWarmUp }) => toleratesWarmUp)) await transport.warmUp?.(link);
    } catch (error) {
      throw stepFailed("init", error, "init");
    }
    await warmChecksums(servers, options, signal);
  }

  /**
   * Brings new weights to every server: pauses generation, sends, proves that they landed, sets the
   * version and resumes.
   *
   * @param weights Default: those of the registered model.
   * @throws {StateError} Not set up, no weights, closed, or busy with `whenBusy: "throw"`.
   * @throws {ValidationError} The weights do not fit the model; nothing was sent.
   * @throws {AbortedError} The signal fired; the cause tells what became of the servers.
   * @throws {WeightSyncError} A step failed; tells phase, server, cause, and what every server holds
   * and does now. The next call opens a new group and repairs what it can.
   */
  async updateWeights(
    weights?: ModelInput,
    options: UpdateWeightsOptions = {},
  ): Promise<WeightSyncReport> {
    checkOptionNames(options, UPDATE_NAMES, "updateWeights()");
    // From the call on: one that never gets its turn is a sync that failed, too.
    return await observed(
      "sync",
      this,
      {},
      (facts) => this.#updateWeights(weights, options, facts),
    );
  }

  async #updateWeights(
    weights: ModelInput | undefined,
    options: UpdateWeightsOptions,
    facts: Facts,
  ): Promise<WeightSyncReport> {
    this.#requireOpen();
    if (!this.#isReady) {
      throw new StateError("Transport not initialized: call initAllWorkersGroup() first");
    }
    const settings = optionsOf(this.#receiver);
    checkName(options.version);
    const part = options.only === undefined ? undefined : new Part(options.only);
    const plain = toSource(weights ?? this.#model.get(), settings.strategy);
    const source = settings.castFloat32To === undefined ? plain : castToBFloat16(plain);
    facts.source = source.label;
    const { clock } = settings;
    const askedAt = clock.now();
    using _turn = await this.#takeTurn("updateWeights", options.signal);
    facts.queuedMs = clock.now() - askedAt;
    facts.servers = this.servers.length;
    tell({ name: "sync.begins", subject: this, value: facts });
    const signal = this.#untilClosed(options.signal);
    const onProgress = this.#watched(options.onProgress);
    const report = await this.#withEngine(plain, part, signal, (versions, onAnnounce) =>
      runSync({
        fleet: fleetOf(this.#receiver),
        options: settings,
        source,
        declared: this.#declared,
        part,
        version: options.version,
        versions,
        onAnnounce,
        owner: this.#owner,
        signal,
        onProgress,
        openTransport: () => this.#transportFor(fleetOf(this.#receiver).participants),
      }));
    tellReport(facts, report);
    await tellCollectors(this.#collectors, report.version, settings.logger);
    return report;
  }

  /**
   * Compares weights with the servers' models, as {@linkcode SGLangWeightSender.updateWeights} would,
   * and sends nothing. Only names, types and shapes are looked at.
   *
   * @param weights Default: those of the registered model.
   * @throws {ValidationError} The weights do not fit.
   * @throws {WeightSyncError} A server failed in phase `"probe"` or `"check"`.
   */
  async checkWeights(
    weights?: ModelInput,
    call: ReceiverCall & Pick<UpdateWeightsOptions, "only"> = {},
  ): Promise<WeightCheck> {
    this.#requireOpen();
    const part = call.only === undefined ? undefined : new Part(call.only);
    const options = optionsOf(this.#receiver);
    const plain = toSource(weights ?? this.#model.get(), options.strategy);
    const source = options.castFloat32To === undefined ? plain : castToBFloat16(plain);
    using _turn = await this.#takeTurn("checkWeights", call.signal);
    const signal = this.#untilClosed(call.signal);
    await this.#receiver.probe({ signal });
    const servers = fleetOf(this.#receiver).participants;
    const { name: transport } = await this.#transportFor(servers);
    const check = { source, declared: this.#declared, part, options, servers, signal };
    return { transport, ...await checkSource(check) };
  }

  /** Lets those who look see how far a sync is. */
  #watched(onProgress: OnProgress | undefined): OnProgress | undefined {
    if (!isObserved()) return onProgress;
    return (value) => {
      tell({ name: "sync.progress", subject: this, value });
      onProgress?.(value);
    };
  }

  /** Lets the engine whose servers are synced know of it, before and after. */
  async #withEngine(
    source: WeightSource,
    part: Part | undefined,
    signal: AbortSignal,
    sync: (
      versions: VersionLedger,
      onAnnounce: (version: string) => void,
    ) => Promise<WeightSyncReport>,
  ): Promise<WeightSyncReport> {
    const given = givenTo(this.#receiver);
    const { engine, serverUrl: _url, workers: _workers, ...how } = given;
    const versions = engine?.versions ?? this.#versions;
    await engine?.syncBegins?.({ signal });
    let version: string | undefined;
    let isDone = false;
    let fingerprint: string | undefined;
    try {
      fingerprint = await fingerprintOf(source, signal);
      const report = await sync(versions, (announced) => {
        version = announced;
        versions.announce(announced);
        for (const collector of this.#collectors) collector.announceVersion?.(announced);
      });
      version = report.version;
      // The version and what it was made of become known in one moment: whoever is brought up to date
      // between them would get the weights of the sync before under this name.
      const now = await fingerprintOf(source, signal);
      versions.publish(version);
      // What a part left on the servers is in no source: it cannot be had again from this one.
      if (part !== undefined || now !== fingerprint) fingerprint = undefined;
      isDone = true;
      return report;
    } finally {
      await engine?.syncEnded?.({
        version,
        isDone,
        servers: this.servers,
        source,
        fingerprint,
        options: how,
        declared: this.#declared,
      });
    }
  }

  /** Empties the servers' prefix caches; `false` when a server is too busy. */
  flushCache(call: ReceiverCall = {}): Promise<boolean> {
    this.#requireOpen();
    return this.#receiver.flushCache(call);
  }

  /**
   * Ends a sync under way, lets the servers leave the group, then closes it. Servers that an earlier
   * failure left paused stay so. Safe to call twice.
   */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#handlers?.[Symbol.dispose]();
    this.#closing.abort(new StateError("The sender was closed"));
    using _turn = await this.#turn.acquire();
    await this.#transport?.transport[Symbol.asyncDispose]();
    this.#transport = undefined;
    await this.#receiver.close();
  }

  /** The same as {@linkcode SGLangWeightSender.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Closes the sender when SIGINT or SIGTERM comes, before they end the process: a server whose rank
   * 0 vanishes may die with it. Needs `--allow-run` for sending the signal again. The handlers go
   * with `close()`.
   */
  installSignalHandlers(): void {
    this.#requireOpen();
    this.#handlers ??= closeOnSignals(() => this.close());
  }

  #requireOpen(): void {
    if (this.#closing.signal.aborted) throw new StateError("The sender is closed");
  }

  async #takeTurn(what: string, signal: AbortSignal | undefined): Promise<Disposable> {
    this.#requireOpen();
    if (optionsOf(this.#receiver).whenBusy === "throw" && this.#turn.inside > 0) {
      throw new StateError(`${what}() was called while a sync runs, and whenBusy is "throw"`);
    }
    return await this.#turn.acquire(this.#untilClosed(signal));
  }

  #untilClosed(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined
      ? this.#closing.signal
      : AbortSignal.any([signal, this.#closing.signal]);
  }

  async #transportFor(servers: readonly FleetServer[]): Promise<Transport> {
    const options = optionsOf(this.#receiver);
    const choice = chooseTransport(servers, options);
    if (typeof choice.transport === "string") {
      fleetOf(this.#receiver).requireFit(choice.transport);
    }
    if (this.#transport?.choice.transport === choice.transport) return this.#transport.transport;
    await this.#transport?.transport[Symbol.asyncDispose]();
    const transport = makeTransport(choice, options);
    options.logger.info(`Weights travel by ${transport.name}: ${choice.reason}`);
    this.#transport = { choice, transport };
    return transport;
  }
}

/** What traces and metrics know of a sync. */
function tellReport(facts: Facts, report: WeightSyncReport): void {
  facts.version = report.version;
  facts.syncId = report.syncId;
  facts.transport = report.transport;
  facts.sizeBytes = report.sizeBytes;
  facts.tensors = report.tensors;
  facts.pausedMs = report.pausedMs;
  facts.skipped = report.skipped.length;
  for (const [step, ms] of Object.entries(report.phasesMs)) facts[`stepMs.${step}`] = ms;
}

/** What the source's files are; who cannot be asked cannot be read again either. */
async function fingerprintOf(
  source: WeightSource,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    return await source.fingerprint?.({ signal });
  } catch {
    return undefined;
  }
}
