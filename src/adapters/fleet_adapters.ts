import { checkOptionNames } from "../internal/option_names.ts";
import { AdapterSyncError, HttpError, StateError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { asError, messageOf } from "../internal/thrown.ts";
import {
  type AdapterWorker,
  BRING_NAMES,
  type BringOptions,
  FLEET_ADAPTERS_NAMES,
  type FleetAdaptersOptions,
} from "./fleet_options.ts";
import { AdapterNames } from "./names.ts";
import { adapterFactsOf, type AdapterServerFacts } from "./server_facts.ts";
import type { AdapterUpload, AdapterVia } from "./upload.ts";
import { type AdapterVersion, AdapterVersions, type LoadedAdapter } from "./versions.ts";

/** How an adapter was brought. */
export interface AdapterSyncReport {
  /** What the adapter is called: `lora` of a request, and the version of its tokens. */
  readonly name: string;
  /** The policy whose newest version it is. */
  readonly policy: string;
  /** Number of the version. */
  readonly number: number;
  /** Bytes of its matrices. */
  readonly byteLength: number;
  /** How it travelled. */
  readonly via: AdapterVia;
  /** Time of the load on each server, in milliseconds. */
  readonly servers: readonly { readonly url: string; readonly durationMs: number }[];
  /** Servers that were left out, and why; they get no requests until they have it. */
  readonly leftOut: readonly { readonly url: string; readonly problem: string }[];
  /** Time of all, in milliseconds. */
  readonly durationMs: number;
}

/**
 * The adapters of a fleet: which every server has, which are asked for, which may go. It belongs to
 * the engine, so that one that joins gets them before it serves.
 */
export class FleetAdapters {
  /** The names that were given. */
  readonly names: AdapterNames = new AdapterNames();
  readonly #options: FleetAdaptersOptions;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #versions = new AdapterVersions();
  readonly #facts = new Map<string, AdapterServerFacts>();
  readonly #turn = new Semaphore(1);
  readonly #unloads = new Set<Promise<void>>();
  #changed = Promise.withResolvers<void>();

  /** Contacts nobody. */
  constructor(options: FleetAdaptersOptions) {
    checkOptionNames(options, FLEET_ADAPTERS_NAMES, "adapters of a fleet");
    this.#options = options;
    this.#logger = options.logger ?? silentLogger;
    this.#clock = options.clock ?? systemClock;
  }

  /** Names that may be asked for, oldest first. */
  get ready(): readonly string[] {
    return this.#versions.ready;
  }

  /** Everything that some server may still have, with the calls that use it. */
  get loaded(): readonly LoadedAdapter[] {
    return this.#versions.loaded;
  }

  /** The newest version of each policy. */
  get newest(): ReadonlyMap<string, string> {
    return this.#versions.newest;
  }

  /**
   * The adapter that a request means: `"newest"` (of the only policy), a policy's name for its newest
   * version, or a version. Names that were never given here are left as they are.
   *
   * @throws {StateError} There is none yet, or the version is retired.
   * @throws {ValidationError} There are several policies, and `"newest"` does not say which.
   */
  resolve(lora: string): string {
    return this.#versions.resolve(lora);
  }

  /** Whether this fleet gave the name. */
  has(name: string): boolean {
    return this.#versions.has(name);
  }

  /** Keeps an adapter loaded until disposed, for a call that uses it. */
  lease(name: string | undefined): Disposable {
    return this.#versions.lease(name, () => this.#unloadIdle());
  }

  /** What the servers take; asked once of each. */
  async facts(signal: AbortSignal | undefined): Promise<readonly AdapterServerFacts[]> {
    return await Promise.all(
      this.#options.workers().map((worker) => this.#factsOf(worker, signal)),
    );
  }

  /** The servers that there are now. */
  get workers(): readonly AdapterWorker[] {
    return this.#options.workers();
  }

  /**
   * Loads an adapter on every server, lets requests use it, and retires what is older than the newest
   * `keep`.
   *
   * @throws {AdapterSyncError} A server refused it, or none could be reached; no server keeps it.
   */
  async bring(upload: AdapterUpload, options: BringOptions): Promise<AdapterSyncReport> {
    checkOptionNames(options, BRING_NAMES, "bring()");
    using _turn = await this.#turn.acquire(options.signal);
    this.#unloadIdle({ retries: true });
    const startedMs = this.#clock.now();
    const { loadMs, unloadMs, signal, onAnnounce } = options;
    const reserved = this.names.reserve(options.name);
    const version: AdapterVersion = {
      ...reserved,
      upload,
      loadMs,
      unloadMs,
      on: new Set(),
      state: "loading",
      isStuck: false,
      leases: 0,
    };
    this.#versions.add(version);
    onAnnounce?.(version.name);
    const servers: { url: string; durationMs: number }[] = [];
    const leftOut: { url: string; problem: string }[] = [];
    try {
      await this.#loadOnAll(version, { servers, leftOut, signal });
    } catch (error) {
      this.#retire(version);
      throw error;
    }
    // Nothing is waited for between the last look at the list of servers and this.
    this.#versions.publish(version);
    for (const old of this.#versions.olderThan(version.policy, options.keep)) this.#retire(old);
    this.#unloadIdle();
    this.#options.onPublished?.();
    return {
      ...reserved,
      byteLength: upload.byteLength,
      via: upload.via,
      servers,
      leftOut,
      durationMs: this.#clock.now() - startedMs,
    };
  }

  /**
   * Asks a server which adapters it has.
   *
   * @returns Those that it lacks of what requests may ask for.
   */
  async look(worker: AdapterWorker, signal?: AbortSignal): Promise<readonly string[]> {
    if (this.#versions.size === 0) return [];
    const loaded = new Set(await worker.client.loadedLoras({ signal }));
    for (const version of this.#versions.inState("ready")) {
      if (loaded.has(version.name)) version.on.add(worker.url);
      else version.on.delete(worker.url);
    }
    return this.#versions.missing(worker.url).map(({ name }) => name);
  }

  /** Loads on a server what it lacks; a server that has just joined or come back has nothing. */
  async equip(worker: AdapterWorker, signal?: AbortSignal): Promise<void> {
    if (this.#versions.size === 0) return;
    // It may have been started anew, and then takes other things than before.
    this.#facts.delete(worker.url);
    await this.look(worker, signal);
    for (const version of this.#versions.missing(worker.url)) {
      await this.#load(version, worker, signal);
    }
  }

  /** Forgets a server that has left. */
  forget(url: string): void {
    this.#facts.delete(url);
    this.#versions.forget(url);
    this.#unloadIdle();
  }

  /** Resolves when no unload is under way. */
  async idle(): Promise<void> {
    while (this.#unloads.size > 0) await Promise.allSettled(this.#unloads);
  }

  /** Unloads everything from all servers that nothing runs with. */
  async clear(): Promise<void> {
    this.#versions.retireAll();
    this.#unloadIdle({ retries: true });
    await this.idle();
  }

  async #loadOnAll(
    version: AdapterVersion,
    told: {
      readonly servers: { url: string; durationMs: number }[];
      readonly leftOut: { url: string; problem: string }[];
      readonly signal: AbortSignal | undefined;
    },
  ): Promise<void> {
    const failed = new Map<string, Error>();
    for (;;) {
      const todo = this.workers.filter(({ url }) => !version.on.has(url) && !failed.has(url));
      if (todo.length === 0) break;
      await Promise.all(todo.map(async (worker) => {
        const startedMs = this.#clock.now();
        try {
          await this.#load(version, worker, told.signal);
          told.servers.push({ url: worker.url, durationMs: this.#clock.now() - startedMs });
        } catch (error) {
          failed.set(worker.url, asError(error));
        }
      }));
      this.#throwIfLost(version, failed, told.signal);
      for (const [url, error] of failed) {
        if (told.leftOut.some((one) => one.url === url)) continue;
        told.leftOut.push({ url, problem: error.message });
        this.#logger.warn(`${url} is left out of "${version.name}": ${error.message}`);
        await this.#options.onLacking?.(url, `it lacks the adapter "${version.name}"`);
      }
    }
  }

  /** A server that refuses an adapter, or a fleet that nobody could be reached of, ends the sync. */
  #throwIfLost(
    version: AdapterVersion,
    failed: ReadonlyMap<string, Error>,
    signal: AbortSignal | undefined,
  ): void {
    if (failed.size === 0) return;
    const errors = [...failed.values()];
    const isRefused = errors.some((error) => error instanceof HttpError && error.status < 500);
    // One whose answer was lost may have it, which is no reason to go on.
    const having = [...version.on].filter((url) => !failed.has(url)).length;
    const mayLeaveOut = this.#options.onLacking !== undefined && having > 0;
    if (!isRefused && mayLeaveOut && !signal?.aborted) return;
    if (signal?.aborted) throw errors[0]!;
    throw new AdapterSyncError(
      `The adapter "${version.name}" could not be brought to ${failed.size} of ` +
        `${failed.size + having} servers, first: ${errors[0]!.message}. No server keeps it, ` +
        "and its name is used up",
      {
        adapter: version.name,
        failures: [...failed].map(([url, error]) => ({ url, error })),
        cause: errors[0],
      },
    );
  }

  async #load(
    version: AdapterVersion,
    worker: AdapterWorker,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { name, upload, loadMs } = version;
    const { ranks } = await this.#untilRoom(version, worker, signal);
    const target = { client: worker.client, ranks };
    try {
      const loaded = await upload.load(target, name, { timeoutMs: loadMs, signal });
      version.on.add(worker.url);
      if (!loaded.includes(name)) {
        throw new StateError(`${worker.url} says that it loaded "${name}", and does not list it`);
      }
      this.#versions.believe(worker.url, loaded);
    } catch (error) {
      // A load whose answer was lost may have come through: it is unloaded with the others.
      if (!(error instanceof HttpError)) version.on.add(worker.url);
      throw error;
    }
  }

  /** A server that keeps only so many drops the one that was longest unused: it must not come to that. */
  async #untilRoom(
    version: AdapterVersion,
    worker: AdapterWorker,
    signal: AbortSignal | undefined,
  ): Promise<AdapterServerFacts> {
    const facts = await this.#factsOf(worker, signal);
    const { maxLoaded } = facts;
    if (maxLoaded === null) return facts;
    const count = () => this.#versions.countOn(worker.url);
    if (count() < maxLoaded) return facts;
    await withDeadline({
      phase: `wait until ${worker.url} has room for an adapter`,
      timeoutMs: version.unloadMs,
      peer: worker.url,
      hint: `It keeps ${maxLoaded} (--max-loaded-loras), and calls still use older ones`,
      signal,
      clock: this.#clock,
    }, async (inner) => {
      while (!inner.aborted && count() >= maxLoaded) await this.#changed.promise;
    });
    return facts;
  }

  async #factsOf(
    worker: AdapterWorker,
    signal: AbortSignal | undefined,
  ): Promise<AdapterServerFacts> {
    const known = this.#facts.get(worker.url);
    if (known !== undefined) return known;
    const info = await worker.client.serverInfo({ signal });
    const facts = adapterFactsOf(worker.url, info);
    for (const name of await worker.client.loadedLoras({ signal })) this.names.found(name);
    this.#facts.set(worker.url, facts);
    return facts;
  }

  #retire(version: AdapterVersion): void {
    version.state = "retired";
    this.#unloadIdle();
  }

  /** Unloads what is retired and not used, in the background of the calls. */
  #unloadIdle({ retries = false } = {}): void {
    for (const version of this.#versions.inState("retired")) {
      if (version.leases > 0) continue;
      if (version.isStuck && !retries) continue;
      version.state = "unloading";
      const unload = this.#unload(version).finally(() => {
        this.#unloads.delete(unload);
        this.#changed.resolve();
        this.#changed = Promise.withResolvers();
      });
      this.#unloads.add(unload);
    }
  }

  async #unload(version: AdapterVersion): Promise<void> {
    const { name, on, unloadMs } = version;
    const present = this.workers.filter(({ url }) => on.has(url));
    on.clear();
    await Promise.all(present.map(async ({ url, client }) => {
      try {
        await client.unloadLora(name, { timeoutMs: unloadMs });
      } catch (error) {
        // It has none of that name: the load failed, or it was started anew.
        if (error instanceof HttpError && error.status === 400) return;
        this.#logger.warn(`${url} did not unload "${name}": ${messageOf(error)}`);
        on.add(url);
      }
    }));
    version.isStuck = on.size > 0;
    if (version.isStuck) version.state = "retired";
    else this.#versions.delete(version);
  }
}
