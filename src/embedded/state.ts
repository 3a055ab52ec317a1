/** What the endpoints of one embedded server share. */
import { AdapterStore, type EmbeddedLoraOptions } from "./adapters/store.ts";
import type { Emulated } from "./emulated.ts";
import { FaultInjector, type Faults } from "./faults.ts";
import type { BodyContext } from "./http/generate_request.ts";
import type { Model } from "./model/model.ts";
import { SeedStream } from "./scheduler/random.ts";
import { Scheduler } from "./scheduler/scheduler.ts";
import type { Task, TaskRequest } from "./scheduler/task.ts";
import type { ServerTokenizer } from "./tokenizer.ts";
import type { JoinGroup } from "./weight_group.ts";
import { WeightUpdates } from "./weight_updates.ts";
import { WeightLock } from "./weight_lock.ts";

/** The seed that a deterministic server gives to requests that bring none, as the real one does. */
const SEED_OF_NONE = 42;

/** What a state is made of. */
export interface StateOptions {
  readonly modelPath: string;
  readonly model: Model;
  readonly tokenizer: ServerTokenizer;
  readonly emulated: Emulated;
  readonly maxRunningRequests: number;
  readonly maxTotalTokens: number;
  readonly healthTimeoutMs: number;
  readonly groupTimeoutMs: number;
  readonly join: JoinGroup;
  readonly seed: number;
  readonly isDeterministic: boolean;
  readonly lora: EmbeddedLoraOptions | undefined;
  readonly faults: Faults;
  /** Drops all connections and stops listening. */
  readonly onCrash: (reason: string) => void;
}

/** Model, scheduler, faults and locks of one server. */
export class EmbeddedState {
  readonly options: StateOptions;
  readonly model: Model;
  readonly tokenizer: ServerTokenizer;
  readonly emulated: Emulated;
  readonly faults: FaultInjector;
  readonly scheduler: Scheduler;
  readonly lock = new WeightLock();
  readonly updates: WeightUpdates;
  /** What adapters are loaded; `null` where none are taken. */
  readonly adapters: AdapterStore | null;
  readonly #seeds: SeedStream;
  /** Whether the weights were noted, to be compared with. */
  hasWeightSnapshot = false;
  /** Folder that the weights came from last. */
  modelPath: string;
  readonly #inWork = new Set<string>();
  readonly #crashed = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  #isCrashed = false;
  #countedTokens = 0;

  constructor(options: StateOptions) {
    this.options = options;
    this.modelPath = options.modelPath;
    this.model = options.model;
    this.tokenizer = options.tokenizer;
    this.emulated = options.emulated;
    this.faults = new FaultInjector(options.faults);
    this.adapters = options.lora === undefined
      ? null
      : new AdapterStore(options.lora, options.model.config);
    this.#seeds = new SeedStream(options.seed);
    this.updates = new WeightUpdates(this, {
      join: options.join,
      timeoutMs: options.groupTimeoutMs,
    });
    const { eosTokenId } = options.tokenizer;
    this.scheduler = new Scheduler({
      model: options.model,
      tokenizer: options.tokenizer,
      eosTokenIds: [
        ...new Set([
          ...options.model.config.eosTokenIds,
          ...(eosTokenId === null ? [] : [eosTokenId]),
        ]),
      ],
      maxRunning: options.maxRunningRequests,
      cacheTokens: options.maxTotalTokens,
      beforeStep: () => this.#beforeStep(),
      onCrash: (reason) => this.crash(reason),
    });
  }

  /** Whether the server has crashed. */
  get isCrashed(): boolean {
    return this.#isCrashed;
  }

  /** Resolves when the server has crashed. */
  get crashed(): Promise<void> {
    return this.#crashed.promise;
  }

  /** Resolves when the server is closed. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** What reading a `/generate` body needs. */
  bodyContext(): BodyContext {
    return {
      tokenizer: this.tokenizer,
      vocabSize: this.model.config.vocabSize,
      contextLength: this.model.config.contextLength,
      strict: this.emulated.strict,
      inWork: this.#inWork,
      onDeadlyRequest: (reason) => this.crash(reason),
      seedFor: (given) => this.options.isDeterministic ? given ?? SEED_OF_NONE : this.#seeds.next(),
    };
  }

  /**
   * Waits until generation is not paused and no weight update is under way. As in the real server a
   * request that comes during a pause waits outside the scheduler, so it keeps no cache from being
   * flushed.
   */
  async enterGeneration(): Promise<Disposable> {
    await this.scheduler.whenNotPaused();
    return await this.lock.enterReader();
  }

  /** Queues a request. */
  submit(request: TaskRequest): Task {
    this.#inWork.add(request.rid);
    return this.scheduler.submit(request);
  }

  /** Forgets ended requests. */
  release(tasks: readonly Task[]): void {
    for (const task of tasks) this.#inWork.delete(task.request.rid);
  }

  /** Aborts these requests. */
  abort(tasks: readonly Task[]): void {
    const rids = new Set(tasks.map((task) => task.request.rid));
    this.scheduler.abort((rid) => rids.has(rid));
  }

  /** Whether a request with this id is in work. */
  knows(rid: string): boolean {
    return this.#inWork.has(rid);
  }

  /** Dies as the real server does: connections break and nobody listens any more. */
  crash(reason: string): void {
    if (this.#isCrashed) return;
    this.#isCrashed = true;
    this.#crashed.resolve();
    // Not at once: the scheduler may be in the middle of a step.
    queueMicrotask(() => this.scheduler.pause("abort"));
    this.options.onCrash(reason);
  }

  /** Ends requests, groups and waits. */
  async close(): Promise<void> {
    this.#closed.resolve();
    this.faults.set({ stalled: false });
    await this.updates.close();
    await this.scheduler.close();
  }

  #beforeStep(): Promise<void> | undefined {
    const made = this.scheduler.generatedTokens;
    if (this.faults.countTokens(made - this.#countedTokens)) this.crash("crashAfterTokens");
    this.#countedTokens = made;
    return this.faults.beforeStep();
  }
}
