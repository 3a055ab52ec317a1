import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { openCheckpoint } from "../checkpoint/mod.ts";
import { SGLangClient } from "../client/client.ts";
import { StateError, ValidationError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { messageOf } from "../internal/thrown.ts";
import { tellCollectors, type VersionedCollector } from "../weights/collectors.ts";
import { type AdapterInput, readAdapter } from "./adapter.ts";
import { type AdapterSyncReport, FleetAdapters } from "./fleet_adapters.ts";
import { type BaseShapes, checkShapes, completeGroups, targetsOf } from "./matrices.ts";
import { checkPolicyName, parseAdapterName } from "./names.ts";
import { checkAgainstServer } from "./server_facts.ts";
import {
  type AdapterUpload,
  type AdapterVia,
  MAX_PAYLOAD_BYTES,
  uploadBest,
  uploadPath,
  uploadTensors,
} from "./upload.ts";

/** An engine whose servers get adapters, such as an `AsyncSGLang`. */
export interface AdapterEngine {
  /** The adapters of its servers. */
  readonly adapters: FleetAdapters;
}

/** Options of {@linkcode LoraSyncScheme}. Give the servers as one of `engine`, `serverUrl`, `workers`. */
export interface LoraSyncOptions {
  /** An engine: its requests may then say `lora: "policy"`, and servers that join get the adapters. */
  readonly engine?: AdapterEngine | undefined;
  /** Address of one server. */
  readonly serverUrl?: string | undefined;
  /** Addresses of servers. */
  readonly workers?: readonly { readonly url: string }[] | undefined;
  /** Key of the servers, where there is no engine. */
  readonly apiKey?: string | undefined;
  /**
   * Versions of each policy that may be asked for by name; older ones are unloaded when no call of the
   * engine uses them. At least the staleness that a collector allows, plus 1. Default 2.
   */
  readonly keep?: number | undefined;
  /**
   * How an adapter travels. `"tensors"`: in the request. `"path"`: the servers read the folder; its
   * files must never change. `"auto"`: to servers of this machine through a folder in `/dev/shm`
   * or `/tmp` that is there for as long as they read it, where Deno may write there and they see it;
   * else as `"tensors"`. Default `"auto"`.
   */
  readonly via?: AdapterVia | "auto" | undefined;
  /** The folder of adapters by the servers' path, where it differs: a prefix and what it becomes. */
  readonly serverPath?: { readonly from: string; readonly to: string } | undefined;
  /**
   * Folder of the base model's safetensors files on this machine, whose headers tell the shapes that
   * an adapter must have. Default the path that the first server reports.
   */
  readonly baseFolder?: string | undefined;
  /**
   * Sends adapters whose shapes cannot be compared with the base model's, because its files are not
   * here. A wrong one ends the servers at its first use. Default `false`.
   */
  readonly trustShapes?: boolean | undefined;
  /** Largest adapter that is read, in bytes. Default 1 GiB. */
  readonly maxBytes?: number | undefined;
  /** Longest adapter that travels in a request, in bytes, at most 384 MiB. Default 256 MiB. */
  readonly maxPayloadBytes?: number | undefined;
  /** Longest load on a server, in milliseconds. Default 60 000. */
  readonly loadMs?: number | undefined;
  /** Longest unload on a server, in milliseconds. Default 60 000. */
  readonly unloadMs?: number | undefined;
  /** Where to report. Default nowhere. */
  readonly logger?: Logger | undefined;
  /** Source of time. @internal */
  readonly clock?: Clock | undefined;
}

const OPTION_NAMES = {
  engine: true,
  serverUrl: true,
  workers: true,
  apiKey: true,
  keep: true,
  via: true,
  serverPath: true,
  baseFolder: true,
  trustShapes: true,
  maxBytes: true,
  maxPayloadBytes: true,
  loadMs: true,
  unloadMs: true,
  logger: true,
  clock: true,
} as const satisfies OptionNames<LoraSyncOptions>;

const DEFAULT_KEEP = 2;
const DEFAULT_VIA = "auto";
const DEFAULT_MAX_BYTES = 1024 ** 3;
const DEFAULT_LOAD_MS = 60_000;
const DEFAULT_UNLOAD_MS = 60_000;

/** Options of {@linkcode LoraSender.updateAdapter}. */
export interface UpdateAdapterOptions {
  /**
   * The policy, whose next version this becomes (`"policy"` gives `policy@1`, `policy@2`, …), or just
   * that version (`"policy@17"`). Default `"policy"`.
   */
  readonly name?: string | undefined;
  /** Ends the sync; servers that have the adapter already unload it. */
  readonly signal?: AbortSignal | undefined;
}

const UPDATE_NAMES = {
  name: true,
  signal: true,
} as const satisfies OptionNames<UpdateAdapterOptions>;

/**
 * How LoRA adapters reach running servers, as policies of their own: nothing is paused, no group is
 * made, and requests with other adapters go on. Making one contacts nobody.
 *
 * @example
 * ```ts
 * import { LoraSyncScheme } from "@sglang-rl/sglang-rl/adapters";
 * import { AsyncSGLang } from "@sglang-rl/sglang-rl";
 *
 * async function push(url: string, folder: string): Promise<string> {
 *   await using engine = await AsyncSGLang.connect(url);
 *   await using sender = new LoraSyncScheme({ engine }).createSender();
 *   const { name } = await sender.updateAdapter(folder, { name: "policy" });
 *   await engine.generate("Hello", { lora: "policy" });
 *   return name; // "policy@1"
 * }
 * ```
 */
export class LoraSyncScheme {
  readonly #options: LoraSyncOptions;

  /**
   * Checks the options.
   *
   * @throws {ValidationError} An option is wrong; the message names it.
   */
  constructor(options: LoraSyncOptions) {
    checkOptionNames(options, OPTION_NAMES, "LoraSyncScheme");
    const { engine, serverUrl, workers, keep = DEFAULT_KEEP, via = DEFAULT_VIA } = options;
    const given = [engine, serverUrl, workers].filter((one) => one !== undefined);
    if (given.length !== 1) {
      throw new ValidationError("Give the servers as one of engine, serverUrl and workers");
    }
    if (workers?.length === 0) throw new ValidationError("workers is empty");
    if (!Number.isSafeInteger(keep) || keep < 1) {
      throw new ValidationError(`keep must be a whole number from 1 on, got ${keep}`);
    }
    const { maxPayloadBytes: most = MAX_PAYLOAD_BYTES } = options;
    if (!Number.isSafeInteger(most) || most < 1 || most > MAX_PAYLOAD_BYTES) {
      throw new ValidationError(
        `maxPayloadBytes must be a whole number from 1 to ${MAX_PAYLOAD_BYTES}, got ${most}`,
      );
    }
    if (via !== "tensors" && via !== "path" && via !== "auto") {
      throw new ValidationError(
        `via must be "auto", "tensors" or "path", got ${JSON.stringify(via)}`,
      );
    }
    for (const name of ["maxBytes", "loadMs", "unloadMs"] as const) {
      const value = options[name];
      if (value === undefined || (typeof value === "number" && value > 0)) continue;
      throw new ValidationError(`${name} must be a number above 0, got ${value}`);
    }
    this.#options = options;
  }

  /** Makes the trainer's side. */
  createSender(): LoraSender {
    return new LoraSender(this.#options);
  }
}

/** Brings adapters to servers. Made by {@linkcode LoraSyncScheme.createSender}. */
export class LoraSender implements AsyncDisposable {
  readonly #options: LoraSyncOptions;
  readonly #logger: Logger;
  readonly #adapters: FleetAdapters;
  /** Clients of our own, where there is no engine. */
  readonly #clients: AsyncDisposableStack = new AsyncDisposableStack();
  readonly #collectors = new Map<VersionedCollector, string | undefined>();
  readonly #closing = new AbortController();
  /** Servers of this machine that do not see its shared memory. */
  readonly #unseeing = new Set<string>();
  #base: BaseShapes | undefined;

  /** Use {@linkcode LoraSyncScheme.createSender}. @internal */
  constructor(options: LoraSyncOptions) {
    this.#options = options;
    this.#logger = options.logger ?? silentLogger;
    this.#adapters = options.engine?.adapters ?? this.#ownAdapters();
  }

  /** The adapters of the servers. */
  get adapters(): FleetAdapters {
    return this.#adapters;
  }

  /**
   * Adds somebody to be told of every new version, such as a collector that tags its rows.
   *
   * @param options `policy`: only of this policy's. Default of all.
   */
  registerCollector(
    collector: VersionedCollector,
    options: { readonly policy?: string | undefined } = {},
  ): void {
    if (options.policy !== undefined) checkPolicyName(options.policy);
    this.#collectors.set(collector, options.policy);
    // A request is of one adapter from its begin to its end.
    collector.expectPauseMode?.("abort");
  }

  /**
   * Loads an adapter on every server, under a name that none had; requests may ask for it when this
   * resolves.
   *
   * @param adapter PEFT's folder, or `{ config, tensors }`.
   * @throws {ValidationError} It fits neither the base model nor what the servers were started for.
   * @throws {UnsupportedError} It is of a kind that SGLang does not compute, or a server takes none.
   * @throws {AdapterSyncError} A server refused it or could not be reached; no server keeps it.
   * @throws {AbortedError} The signal fired; no server keeps it.
   */
  async updateAdapter(
    adapter: AdapterInput,
    options: UpdateAdapterOptions = {},
  ): Promise<AdapterSyncReport> {
    checkOptionNames(options, UPDATE_NAMES, "updateAdapter()");
    if (this.#closing.signal.aborted) throw new StateError("The sender is closed");
    const { name = "policy" } = options;
    const policy = parseAdapterName(name)?.policy ?? name;
    checkPolicyName(policy);
    const signal = options.signal === undefined
      ? this.#closing.signal
      : AbortSignal.any([options.signal, this.#closing.signal]);
    const { keep = DEFAULT_KEEP, loadMs = DEFAULT_LOAD_MS, unloadMs = DEFAULT_UNLOAD_MS } =
      this.#options;
    const upload = await this.#prepare(adapter, keep, signal);
    const told = [...this.#collectors].filter(([, of]) => of === undefined || of === policy)
      .map(([collector]) => collector);
    const report = await this.#adapters.bring(upload, {
      name,
      keep,
      loadMs,
      unloadMs,
      signal,
      onAnnounce: (version) => {
        for (const collector of told) collector.announceVersion?.(version);
      },
    });
    this.#logger.info(
      `Adapter ${report.name} (${report.byteLength} bytes) is on ${report.servers.length} servers`,
    );
    await tellCollectors(told, report.name, this.#logger);
    return report;
  }

  /** Ends a sync under way and waits for unloads. The adapters stay loaded. Safe to call twice. */
  async close(): Promise<void> {
    this.#closing.abort(new StateError("The sender was closed"));
    await this.#adapters.idle();
    await this.#clients.disposeAsync();
  }

  /** The same as {@linkcode LoraSender.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #prepare(
    input: AdapterInput,
    keep: number,
    signal: AbortSignal,
  ): Promise<AdapterUpload> {
    const { via = DEFAULT_VIA, maxBytes = DEFAULT_MAX_BYTES } = this.#options;
    const [adapter, facts] = await Promise.all([
      readAdapter(input, { maxBytes, signal }),
      this.#adapters.facts(signal),
    ]);
    const base = await this.#baseShapes(signal);
    if (base !== undefined) checkShapes(adapter.matrices, base);
    const matrices = completeGroups(adapter.matrices, base);
    const asked = { settings: adapter.settings, targets: targetsOf(adapter.matrices) };
    for (const server of facts) checkAgainstServer(asked, server, keep);
    const { maxPayloadBytes: most } = this.#options;
    if (via === "tensors") return uploadTensors(adapter, matrices, most);
    if (via === "auto") return uploadBest(adapter, matrices, this.#unseeing, most);
    return await uploadPath(adapter, matrices, this.#serverFolder(adapter.folder));
  }

  #serverFolder(folder: string | undefined): string | undefined {
    const { serverPath } = this.#options;
    if (serverPath === undefined || folder === undefined) return folder;
    if (!folder.startsWith(serverPath.from)) {
      throw new ValidationError(
        `The adapter lies in ${folder}, and serverPath is for folders below ${serverPath.from}`,
      );
    }
    return serverPath.to + folder.slice(serverPath.from.length);
  }

  /** Shapes of the base model's weights, read once. */
  async #baseShapes(signal: AbortSignal): Promise<BaseShapes | undefined> {
    if (this.#base !== undefined) return this.#base;
    const { baseFolder, trustShapes = false } = this.#options;
    const [first] = this.#adapters.workers;
    const folder = baseFolder ?? (await first!.client.modelInfo({ signal })).modelPath;
    try {
      await using checkpoint = await openCheckpoint(folder, { signal });
      this.#base = new Map(
        [...checkpoint.tensors].map(([name, { shape }]) => [name, { shape }]),
      );
      return this.#base;
    } catch (error) {
      if (trustShapes && baseFolder === undefined) return undefined;
      throw new StateError(
        `The base model's shapes cannot be read here (${
          messageOf(error)
        }), and an adapter of other ` +
          "shapes ends a server. Give baseFolder, the folder of its safetensors files on this machine",
        { cause: error },
      );
    }
  }

  #ownAdapters(): FleetAdapters {
    const { serverUrl, workers, apiKey, clock } = this.#options;
    const urls = serverUrl === undefined ? workers!.map(({ url }) => url) : [serverUrl];
    const own = urls.map((url) => this.#clients.use(new SGLangClient({ url, apiKey })));
    return new FleetAdapters({
      workers: () => own.map((client) => ({ client, url: client.url })),
      logger: this.#logger,
      clock,
    });
  }
}
