import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import { AbortedError, CheckpointError, TimeoutError, ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { sleep, throwIfAborted } from "../internal/deadline.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { isMissingFile, stampOf } from "../internal/regular_file.ts";
import { asPermissionError, namingPermission } from "../internal/permission.ts";
import { messageOf } from "../internal/thrown.ts";
import {
  SGLangWeightSyncScheme,
  type WeightSyncFields,
  type WeightSyncReport,
} from "../weights/mod.ts";
import { safetensors } from "../weights/source/mod.ts";
import type { DeltaFile, DeltaManifest } from "./manifest.ts";
import { DeltaStore } from "./store.ts";
import { type DeltaLimits, deltaLimits, type DeltaLimitSettings } from "./limits.ts";
import { applyDelta, copyHashed, openRegular } from "./xor.ts";

/** Options of {@linkcode Follower}. */
export interface FollowerOptions {
  /** The store: a folder, or an `http(s)://` address. */
  readonly store: string;
  /** Headers of requests to the store, such as `authorization`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /**
   * The server's model folder on this host. Its safetensors files are replaced; keep the path stable,
   * because the server calls its model by it.
   */
  readonly folder: string;
  /** Address of the server beside it. Default none: files only. */
  readonly serverUrl?: string | undefined;
  /** How the server is asked to load: pause mode, deadlines, keys. */
  readonly sync?:
    | Omit<WeightSyncFields, "serverUrl" | "engine" | "workers" | "transport" | "disk">
    | undefined;
  /** How often the store is looked at, in milliseconds. Default 1000. */
  readonly pollMs?: number | undefined;
  /** What is taken of the store, and how long is waited for it. */
  readonly limits?: DeltaLimits | undefined;
  /** Where to report. Default nowhere. */
  readonly logger?: Logger | undefined;
  /** Source of time. @internal */
  readonly clock?: Clock | undefined;
}

const OPTION_NAMES = {
  store: true,
  headers: true,
  folder: true,
  serverUrl: true,
  sync: true,
  pollMs: true,
  limits: true,
  logger: true,
  clock: true,
} as const satisfies OptionNames<FollowerOptions>;

/** What one update did. */
export interface FollowReport {
  /** What the weights are called. */
  readonly version: string;
  /** Bytes that were read from the store. */
  readonly bytesRead: number;
  /** Files that were patched, and those that were taken whole. */
  readonly patched: number;
  /** Files that were copied whole. */
  readonly whole: number;
  /** Time to bring the files up to date, while the server generated, in milliseconds. */
  readonly prepareMs: number;
  /** How the server loaded them; `undefined` without one. */
  readonly sync: WeightSyncReport | undefined;
}

/**
 * Stands beside a server, watches a store of versions, brings the server's own files up to date while
 * it generates, and only then asks it to load them. A file is patched by its delta where its checksum
 * is that of the delta's base, else taken whole; it is replaced only when the checksum of the new one
 * is right. Needs no patch of SGLang and no Python.
 *
 * Needs `--allow-read` and `--allow-write` of the folder, and `--allow-net` or `--allow-read` for
 * store and server.
 *
 * @example
 * ```ts
 * import { Follower } from "@sglang-rl/sglang-rl/delta";
 *
 * async function follow(signal: AbortSignal): Promise<void> {
 *   const follower = new Follower({
 *     store: "http://trainer:8000/store",
 *     folder: "/models/policy",
 *     serverUrl: "http://127.0.0.1:30000",
 *   });
 *   for await (const { version, bytesRead } of follower.run({ signal })) {
 *     console.log(version, bytesRead);
 *   }
 * }
 * ```
 */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #store: DeltaStore;
  readonly #folder: string;
  readonly #pollMs: number;
  readonly #limits: DeltaLimitSettings;
  readonly #logger: Logger;
  readonly #clock: Clock;
  /** Checksums of our own files, as long as nobody else writes them. */
  readonly #known = new Map<string, { readonly stamp: string; readonly sha256: string }>();
  #current: DeltaManifest | undefined;

  /** Checks the options; contacts nobody. */
  constructor(options: FollowerOptions) {
    checkOptionNames(options, OPTION_NAMES, "a Follower");
    const { store, folder, headers, pollMs = 1000 } = options;
    if (typeof store !== "string" || store === "") throw new ValidationError("Give store");
    if (typeof folder !== "string" || folder === "") throw new ValidationError("Give folder");
    if (!(pollMs > 0)) throw new ValidationError(`pollMs must be above 0, got ${pollMs}`);
    this.#options = options;
    this.#pollMs = pollMs;
    this.#clock = options.clock ?? systemClock;
    this.#limits = deltaLimits(options.limits);
    this.#store = new DeltaStore(store, { headers, limits: options.limits, clock: this.#clock });
    this.#folder = resolve(folder);
    this.#logger = options.logger ?? silentLogger;
  }

  /** The version that files and server have; `undefined` before the first. */
  get version(): string | undefined {
    return this.#current?.version;
  }

  /** Follows until the signal fires; what fails is logged and tried again at the next look. */
  async *run(
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<FollowReport, void, void> {
    const { signal } = options;
    while (!signal?.aborted) {
      let report: FollowReport | undefined;
      try {
        report = await this.update(options);
      } catch (error) {
        if (signal?.aborted) return;
        this.#logger.warn(`The store could not be followed: ${messageOf(error)}`);
      }
      if (report !== undefined) yield report;
      try {
        await sleep(this.#pollMs, { signal, clock: this.#clock });
      } catch (error) {
        if (error instanceof AbortedError) return;
        throw error;
      }
    }
  }

  /**
   * Looks at the store once and brings files and server to its newest version.
   *
   * @returns `undefined` when they have it already.
   * @throws {CheckpointError} The store has no whole file that is right; the old files stay.
   * @throws {LimitError} It has more than `limits` allow; the old files stay.
   * @throws {TimeoutError} The files did not come within `limits.updateMs`; the old ones stay.
   * @throws {WeightSyncError} The server did not load them; the files are the new ones, and the next
   * call asks it again.
   */
  async update(
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<FollowReport | undefined> {
    const newest = await this.#store.newest(signal);
    if (newest === undefined || newest.number === this.#current?.number) return undefined;
    const startedMs = this.#clock.now();
    const count = await this.#inTime(newest, signal);
    const prepareMs = this.#clock.now() - startedMs;
    const sync = await this.#load(newest.version, signal);
    this.#current = newest;
    return { version: newest.version, ...count, prepareMs, sync };
  }

  /** Brings the files here, all of it within one deadline, and waits until what it opened is closed. */
  async #inTime(newest: DeltaManifest, signal: AbortSignal | undefined): Promise<Counts> {
    const { updateMs: timeoutMs } = this.#limits;
    const { store: peer } = this.#options;
    const stop = new AbortController();
    const cancel = this.#clock.schedule(timeoutMs, () => {
      stop.abort(new TimeoutError({ phase: `bring version "${newest.version}"`, timeoutMs, peer }));
    });
    const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
    try {
      return await this.#bringAll(newest, either);
    } catch (error) {
      throwIfAborted(signal, "follow");
      throw stop.signal.aborted ? stop.signal.reason : error;
    } finally {
      cancel();
    }
  }

  async #bringAll(newest: DeltaManifest, signal: AbortSignal): Promise<Counts> {
    const chain = (await this.#chainTo(newest, signal)).map(byName);
    const count = { bytesRead: 0, patched: 0, whole: 0 };
    const ready: { readonly temporary: string; readonly file: DeltaFile }[] = [];
    try {
      for (const file of newest.files) {
        const temporary = await this.#bring(file, newest, chain, count, signal);
        if (temporary !== undefined) ready.push({ temporary, file });
      }
      throwIfAborted(signal, "follow");
      // All are right: from here on the files are replaced.
      for (const { temporary, file } of ready) {
        const path = join(this.#folder, file.name);
        await namingPermission(
          `--allow-read=${this.#folder} --allow-write=${this.#folder}`,
          `write ${path}`,
          () => Deno.rename(temporary, path),
        );
        this.#known.set(file.name, {
          stamp: await stampOf(path),
          sha256: file.sha256,
        });
      }
    } finally {
      for (const { temporary } of ready) await Deno.remove(temporary).catch(() => {});
    }
    return count;
  }

  /** The versions between ours and the newest, as far as the store still has them. */
  async #chainTo(
    newest: DeltaManifest,
    signal: AbortSignal | undefined,
  ): Promise<readonly DeltaManifest[]> {
    const chain = [newest];
    const oldest = this.#current?.number ?? newest.number - 1;
    while (chain.at(-1)!.number > Math.max(1, oldest + 1)) {
      if (chain.length === this.#limits.versions) break;
      const before = await this.#store.version(chain.at(-1)!.number - 1, signal);
      if (before === undefined) break;
      chain.push(before);
    }
    return chain.reverse();
  }

  /** Makes a file of the newest version beside the old one; `undefined` where the old one is it. */
  async #bring(
    file: DeltaFile,
    newest: DeltaManifest,
    chain: readonly NamedFiles[],
    count: Counts,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const path = join(this.#folder, file.name);
    const ours = await this.#sha256Of(file.name, signal);
    if (ours === file.sha256) return undefined;
    const temporary = `${path}.follow.tmp`;
    const steps = ours === undefined ? undefined : stepsFrom(ours, file.name, chain);
    if (steps !== undefined) {
      try {
        await this.#patch(path, temporary, steps, signal);
        count.bytesRead += steps.reduce((sum, { delta }) => sum + delta.size, 0);
        count.patched++;
        return temporary;
      } catch (error) {
        throwIfAborted(signal, "follow");
        this.#logger.warn(`${path} could not be patched: ${messageOf(error)}. It is taken whole`);
      }
    } else if (ours !== undefined) {
      this.#logger.info(`${path} is not the base of any delta; it is taken whole`);
    }
    try {
      const stream = await this.#store.open(newest.number, file.name, signal);
      const got = await copyHashed(stream, temporary, signal, file.size);
      if (got.sha256 !== file.sha256) {
        throw new CheckpointError(
          `${file.name} of version "${newest.version}" has another checksum than its manifest says`,
        );
      }
    } catch (error) {
      await Deno.remove(temporary).catch(() => {});
      throw error;
    }
    count.bytesRead += file.size;
    count.whole++;
    return temporary;
  }

  async #patch(
    path: string,
    temporary: string,
    steps: readonly PatchStep[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let base = path;
    for (const [i, { number, delta, sha256 }] of steps.entries()) {
      const target = i === steps.length - 1 ? temporary : `${temporary}.${i}`;
      try {
        const stream = await this.#store.open(number, delta.path, signal);
        const done = await applyDelta(base, stream, target, signal);
        if (done.base.sha256 !== delta.baseSha256 || done.next.sha256 !== sha256) {
          throw new CheckpointError("the checksum is wrong");
        }
      } catch (error) {
        await Deno.remove(target).catch(() => {});
        throw error;
      } finally {
        if (base !== path) await Deno.remove(base).catch(() => {});
      }
      base = target;
    }
  }

  async #load(
    version: string,
    signal: AbortSignal | undefined,
  ): Promise<WeightSyncReport | undefined> {
    const { serverUrl, sync } = this.#options;
    if (serverUrl === undefined) return undefined;
    const scheme = new SGLangWeightSyncScheme({
      logger: this.#logger,
      ...sync,
      serverUrl,
      transport: "disk",
    });
    await using sender = scheme.createSender();
    await sender.initAllWorkersGroup(undefined, { signal });
    return await sender.updateWeights(safetensors(this.#folder), { version, signal });
  }

  /** Checksum of our own file; read only when it may have changed since it was last read. */
  async #sha256Of(name: string, signal: AbortSignal | undefined): Promise<string | undefined> {
    const path = join(this.#folder, name);
    let stamp: string;
    try {
      stamp = await stampOf(path);
    } catch (error) {
      if (isMissingFile(error)) return undefined;
      throw asPermissionError(error, `--allow-read=${this.#folder}`, `read ${path}`);
    }
    const known = this.#known.get(name);
    if (known?.stamp === stamp) return known.sha256;
    const hash = createHash("sha256");
    using file = await openRegular(path, signal);
    for await (const bytes of file.readable) {
      throwIfAborted(signal, "checksum");
      hash.update(bytes);
    }
    const sha256 = hash.digest("hex");
    this.#known.set(name, { stamp, sha256 });
    return sha256;
  }
}

/** What was read, and how. */
interface Counts {
  bytesRead: number;
  patched: number;
  whole: number;
}

/** A version whose files are found by their names. */
interface NamedFiles {
  readonly number: number;
  readonly files: ReadonlyMap<string, DeltaFile>;
}

function byName({ number, files }: DeltaManifest): NamedFiles {
  return { number, files: new Map(files.map((file) => [file.name, file])) };
}

/** One delta of the way to the newest version. */
interface PatchStep {
  readonly number: number;
  readonly delta: NonNullable<DeltaFile["delta"]>;
  readonly sha256: string;
}

/** The deltas that lead from a file of this checksum to the newest; `undefined` where none do. */
function stepsFrom(
  sha256: string,
  name: string,
  chain: readonly NamedFiles[],
): readonly PatchStep[] | undefined {
  const steps: PatchStep[] = [];
  let at = sha256;
  for (const { number, files } of chain) {
    const file = files.get(name);
    if (file === undefined) return undefined;
    if (file.sha256 === at) continue;
    if (file.delta === null || file.delta.baseSha256 !== at) {
      // A base that is none of an older version: a later one may fit.
      if (steps.length === 0) continue;
      return undefined;
    }
    steps.push({ number, delta: file.delta, sha256: file.sha256 });
    at = file.sha256;
  }
  const wanted = chain.at(-1)!.files.get(name)!.sha256;
  return at === wanted && steps.length > 0 ? steps : undefined;
}
