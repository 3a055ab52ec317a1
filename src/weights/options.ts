import type { SGLangClient } from "../client/client.ts";
import type { PauseMode } from "../client/types.ts";
import type { OpenGroup } from "../collective/group.ts";
import { ValidationError } from "../errors.ts";
import type { FleetSync } from "./fleet_sync.ts";
import type { VersionLedger } from "./version_ledger.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { grantedEnv } from "../internal/granted_env.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { DEFAULT_BUCKET_BYTES } from "./sync/plan.ts";
import { type OpenTransport, TRANSPORT_NAMES, type TransportName } from "./transport/transport.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** How weights that are given as plain objects are read. */
export type WeightStrategy = "tensordict" | "state_dict";

/** What is asked of the servers before a sync counts as done. */
export type VerifyLevel = "version" | "sample" | "checksum" | "off";

/** Longest waits, in milliseconds, by step. */
export interface WeightDeadlines {
  /** Reading what a server is. Default 10 000. */
  readonly probeMs: number;
  /** Opening the source and reading its names. Default 60 000. */
  readonly sourceMs: number;
  /** All servers joining the group. Default 60 000. */
  readonly initMs: number;
  /** Pausing; in mode `abort` the server answers when nothing runs. Default 30 000. */
  readonly pauseMs: number;
  /** Running requests coming to an end after the pause. Default 30 000. */
  readonly drainMs: number;
  /** Emptying the prefix cache. Default 15 000. */
  readonly flushMs: number;
  /** Opening a session, and waiting for a session to end that is not ours. Default 30 000. */
  readonly beginMs: number;
  /**
   * How long another trainer's mark may stay the same until that trainer is counted as dead; one that
   * lives writes it again every second. At least 3000. Default: `beginMs` when that is given, else
   * half more than the longest of the other steps (180 000).
   */
  readonly takeoverMs: number;
  /** Waiting for other trainers that live. Default 3 600 000. */
  readonly turnMs: number;
  /** One bucket: reading it, sending it, and the servers loading it. Default 120 000. */
  readonly updateMs: number;
  /** Closing the session; the server may quantise here. Default 120 000. */
  readonly endMs: number;
  /** Every request that proves the landing. Default 60 000. */
  readonly verifyMs: number;
  /** Resuming, versions and other short calls. Default 10 000. */
  readonly controlMs: number;
  /**
   * A server once the others are done with a step, or wait for it in an update. It is then left
   * behind, because the others are paused meanwhile. Default 5 000.
   */
  readonly stragglerMs: number;
  /**
   * The source giving 512 MiB of a bucket (or less) while the servers are paused; longer for more.
   * Default 8 000.
   */
  readonly readMs: number;
  /** Each step of cleaning up after a failure or at the end. Default 10 000. */
  readonly destroyMs: number;
}

/** The defaults of {@linkcode WeightDeadlines}. */
export const DEFAULT_DEADLINES: WeightDeadlines = {
  probeMs: 10_000,
  sourceMs: 60_000,
  initMs: 60_000,
  pauseMs: 30_000,
  drainMs: 30_000,
  flushMs: 15_000,
  beginMs: 30_000,
  takeoverMs: 180_000,
  turnMs: 3_600_000,
  updateMs: 120_000,
  endMs: 120_000,
  verifyMs: 60_000,
  controlMs: 10_000,
  stragglerMs: 5_000,
  readMs: 8_000,
  destroyMs: 10_000,
};

/** A server to update. */
export interface WeightWorker {
  /** Address of the server itself, not of a router. */
  readonly url: string;
  /** Its tensor-parallel ranks; read from the server when absent. */
  readonly tpSize?: number | undefined;
  /** A client with the server's keys, as an engine's servers have it; it is not closed here. */
  readonly client?: SGLangClient | undefined;
}

/** Anything with servers behind it, such as an `AsyncSGLang`. */
export interface WeightEngine {
  /** The servers; read again before every sync. */
  readonly workers: readonly WeightWorker[];
  /** Those of them that syncs are for. Default all. */
  readonly syncWorkers?: readonly WeightWorker[] | undefined;
  /** The names of its weights, for all who sync it. Default: the sender has names of its own. */
  readonly versions?: VersionLedger | undefined;
  /** A sync is about to read the list of servers. */
  syncBegins?(call: { readonly signal?: AbortSignal | undefined }): Promise<void>;
  /** A sync has ended, in whatever way; called once for each `syncBegins` that resolved. */
  syncEnded?(sync: FleetSync): Promise<void>;
}

/** Where native libraries are looked for first; what is absent is found as ever. */
export interface NcclLibraries {
  /** Path of `libnccl.so.2`; must be the servers' copy. */
  readonly nccl?: string;
  /** Path of `libcudart.so.12` or `.13`. */
  readonly cudart?: string;
  /** Path of `libcuda.so.1`, the driver. */
  readonly cuda?: string;
  /** Python of the servers' environment, whose packages bring the libraries. */
  readonly python?: string;
}

/** Where the disk transport puts weights. */
export interface DiskOptions {
  /** Folder in which a folder for each version is made; servers must see it. */
  readonly folder: string;
  /** The same folder by the servers' path, when it differs. */
  readonly serverFolder?: string | undefined;
  /** How many written versions stay. Default 1. */
  readonly keep?: number | undefined;
}

/**
 * How weights are synced. Give the servers as one of `serverUrl`, `engine` and `workers`; all else
 * has a default.
 */
export interface WeightSyncOptions {
  /** Address of one server. */
  readonly serverUrl?: string | undefined;
  /** An engine whose servers are updated. */
  readonly engine?: WeightEngine | undefined;
  /** Addresses of several servers. */
  readonly workers?: readonly (string | WeightWorker)[] | undefined;
  /** Key of the servers. */
  readonly apiKey?: string | undefined;
  /** Admin key of the servers, when they have one. */
  readonly adminApiKey?: string | undefined;
  /** Further headers of every call, for a gateway before the servers. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Address that the servers connect to. Default: this machine's address towards the servers. */
  readonly masterAddress?: string | undefined;
  /** Port that the servers connect to. Default: a free one of 1024 to 55535. */
  readonly masterPort?: number | undefined;
  /** Address to listen on, when it is not `masterAddress`. */
  readonly bindAddress?: string | undefined;
  /** Ranks of all servers together; checked when given. Default: what the servers tell. */
  readonly numWorkers?: number | undefined;
  /** This process's rank among the trainer's; only 0 sends. Default 0. */
  readonly rank?: number | undefined;
  /** CUDA device of rank 0: an index, `"cuda"` or `"cuda:1"`. Default 0. */
  readonly device?: number | string | undefined;
  /**
   * Required for `transport: "cuda-ipc"`: your word that the processes of every server see the GPU
   * of `device`, so `CUDA_VISIBLE_DEVICES` does not hide it from them. No server tells, and one that
   * does not see it dies of the memory handle (seen on SGLang 0.5.16).
   */
  readonly serversSeeDevice?: boolean | undefined;
  /** How plain objects are read. Default `"tensordict"`, which takes flat state dicts too. */
  readonly strategy?: WeightStrategy | undefined;
  /**
   * How weights travel: by name, or by what makes a {@linkcode Transport} of one's own. Default
   * `"auto"`, which picks by where the servers run.
   */
  readonly transport?: TransportName | "auto" | OpenTransport | undefined;
  /** Where NCCL and the CUDA runtime are; they must be the servers' copies. */
  readonly nccl?: NcclLibraries | undefined;
  /** Opens a group of one's own kind for `nccl` and `gloo`. */
  readonly openGroup?: OpenGroup | undefined;
  /** Where the transport `disk` writes; not needed for a source that is a folder. */
  readonly disk?: DiskOptions | undefined;
  /**
   * What the transports `nccl` and `gloo` join into one group. `"server"`, the default: each server
   * has a group of its own, so that one which dies or freezes in an update holds up none of the
   * others; every byte is sent once for each server. `"fleet"`: one group over all servers, a byte is
   * sent once; over NVLink or P2P a server that is killed in an update freezes the others for good.
   */
  readonly isolation?: "server" | "fleet" | undefined;
  /**
   * For `nccl`: rank 0 lives in a process of its own, the keeper, which outlives this one: when this
   * process is killed within an update, it lets the servers go and resumes those that hold old
   * weights. It needs `--allow-run` for Deno itself. Default: where that is granted, with a warning
   * where not. `true` insists on it, `false` keeps rank 0 in this process.
   */
  readonly keeper?: boolean | undefined;
  /** Limit of a bucket. Default 512 MiB. */
  readonly bucketBytes?: number | undefined;
  /** Send a bucket as one broadcast. Default true; `false` sends each tensor alone. */
  readonly flattened?: boolean | undefined;
  /** Cast float32 weights on the way. Default: as they are. */
  readonly castFloat32To?: "bfloat16" | undefined;
  /** How generation is paused. Default `"abort"`, or `TORCHRL_SGLANG_PAUSE_GENERATION_MODE`. */
  readonly pauseMode?: PauseMode | undefined;
  /**
   * Empty the prefix caches. Default, or by `TORCHRL_SGLANG_WEIGHT_SYNC_FLUSH_CACHE`: always in mode
   * `abort`; in the others it is tried, and left when requests that wait hold the cache.
   */
  readonly flushCache?: boolean | undefined;
  /** What proves the landing. Default `"version"`. */
  readonly verify?: VerifyLevel | undefined;
  /** What the names are checked with when none are declared. Default `"servers"`. */
  readonly nameCheck?: "servers" | "off" | undefined;
  /**
   * Your word that weights share memory: tied name to kept name. A tied one may stay behind when the
   * kept one is sent. Default: `lm_head` with the embedding, if the config of the servers' model says
   * `tie_word_embeddings` and its checkpoint has no head; else none.
   */
  readonly tiedWeights?: Readonly<Record<string, string>> | undefined;
  /**
   * Refuse weights with NaN or infinities, as after a training step that diverged: of memory and of
   * files before anything is sent, of an iterator as it gives them. Default true for `verify`
   * `"sample"` and `"checksum"`, else false. Weights in memory of a GPU are not looked at: true refuses
   * them, the default lets them through.
   */
  readonly finite?: boolean | undefined;
  /** What a second `updateWeights` does while one runs. Default `"wait"`. */
  readonly whenBusy?: "wait" | "throw" | undefined;
  /**
   * Your word that no other trainer syncs these servers, which saves the 30 ms in which two could
   * meet. One that does all the same is still noticed at the end. Default false.
   */
  readonly soleTrainer?: boolean | undefined;
  /** Go on without servers that do not answer. Default `"throw"`. */
  readonly whenUnreachable?: "throw" | "skip" | undefined;
  /** Servers that missed an update stay paused (default) or serve what they hold. */
  readonly whenMissed?: "keep_paused" | "resume" | undefined;
  /** Longest waits. */
  readonly deadlines?: Partial<WeightDeadlines> | undefined;
  /**
   * Name of this trainer, which others read in the servers' weight version while it syncs; every
   * sender adds a random part. Default: its process id. No ":" and no "~".
   */
  readonly trainer?: string | undefined;
  /** Where it reports. Default: nowhere. */
  readonly logger?: Logger | undefined;
  /** The time to use, for tests. */
  readonly clock?: Clock | undefined;
  /**
   * Reads an environment variable. Default: `Deno.env` for the two names above where permission is
   * granted already, else nothing.
   */
  readonly env?: ((name: string) => string | undefined) | undefined;
}

const WEIGHT_SYNC_NAMES = {
  serverUrl: true,
  engine: true,
  workers: true,
  apiKey: true,
  adminApiKey: true,
  headers: true,
  masterAddress: true,
  masterPort: true,
  bindAddress: true,
  numWorkers: true,
  rank: true,
  device: true,
  serversSeeDevice: true,
  strategy: true,
  transport: true,
  nccl: true,
  openGroup: true,
  disk: true,
  bucketBytes: true,
  flattened: true,
  castFloat32To: true,
  pauseMode: true,
  flushCache: true,
  verify: true,
  nameCheck: true,
  tiedWeights: true,
  whenBusy: true,
  soleTrainer: true,
  whenUnreachable: true,
  whenMissed: true,
  deadlines: true,
  logger: true,
  env: true,
  clock: true,
  trainer: true,
  finite: true,
  isolation: true,
  keeper: true,
} as const satisfies OptionNames<WeightSyncOptions>;

const DISK_NAMES = {
  folder: true,
  serverFolder: true,
  keep: true,
} as const satisfies OptionNames<DiskOptions>;

const NCCL_NAMES = {
  nccl: true,
  cudart: true,
  cuda: true,
  python: true,
} as const satisfies OptionNames<NcclLibraries>;

const DEADLINE_NAMES = {
  probeMs: true,
  sourceMs: true,
  initMs: true,
  pauseMs: true,
  drainMs: true,
  flushMs: true,
  beginMs: true,
  updateMs: true,
  endMs: true,
  verifyMs: true,
  controlMs: true,
  destroyMs: true,
  takeoverMs: true,
  turnMs: true,
  stragglerMs: true,
  readMs: true,
} as const satisfies OptionNames<WeightDeadlines>;

/** The options with every default filled in. */
export interface ResolvedOptions {
  readonly apiKey: string | undefined;
  readonly adminApiKey: string | undefined;
  readonly headers: Readonly<Record<string, string>> | undefined;
  readonly masterAddress: string | undefined;
  readonly masterPort: number | undefined;
  readonly bindAddress: string | undefined;
  readonly numWorkers: number | undefined;
  readonly rank: number;
  readonly device: number;
  readonly strategy: WeightStrategy;
  readonly transport: TransportName | "auto" | OpenTransport;
  readonly nccl: NcclLibraries | undefined;
  readonly openGroup: OpenGroup | undefined;
  readonly disk: DiskOptions | undefined;
  readonly isolation: "server" | "fleet";
  readonly keeper: boolean | undefined;
  readonly bucketBytes: number;
  readonly flattened: boolean;
  readonly castFloat32To: "bfloat16" | undefined;
  readonly pauseMode: PauseMode;
  /** `undefined`: always in mode abort, else if idle. */
  readonly flushCache: boolean | undefined;
  readonly verify: VerifyLevel;
  readonly nameCheck: "servers" | "off";
  readonly tiedWeights: ReadonlyMap<string, string> | undefined;
  /** `"where_possible"`: weights in memory of a GPU are let through, and the report says so. */
  readonly finite: boolean | "where_possible";
  readonly whenBusy: "wait" | "throw";
  readonly soleTrainer: boolean;
  readonly whenUnreachable: "throw" | "skip";
  readonly whenMissed: "keep_paused" | "resume";
  readonly deadlines: WeightDeadlines;
  readonly trainer: string | undefined;
  readonly logger: Logger;
  readonly clock: Clock;
}

const PAUSE_ENV = "TORCHRL_SGLANG_PAUSE_GENERATION_MODE";
const FLUSH_ENV = "TORCHRL_SGLANG_WEIGHT_SYNC_FLUSH_CACHE";

/** Checks the options and fills in the defaults. */
export function resolveOptions(options: WeightSyncOptions): ResolvedOptions {
  checkOptionNames(options, WEIGHT_SYNC_NAMES, "a weight sync");
  checkOptionNames(options.deadlines ?? {}, DEADLINE_NAMES, "`deadlines`");
  checkOptionNames(options.disk ?? {}, DISK_NAMES, "`disk`");
  checkOptionNames(options.nccl ?? {}, NCCL_NAMES, "`nccl`");
  const logger = options.logger ?? silentLogger;
  const env = options.env ?? grantedEnv;
  const { pauseMode, flushCache } = resolvePause(options, env, logger);
  const deadlines = resolveDeadlines(options.deadlines);
  requireOneOf("strategy", options.strategy, ["tensordict", "state_dict"]);
  if (typeof options.transport !== "function") {
    requireOneOf("transport", options.transport, ["auto", ...TRANSPORT_NAMES]);
  }
  if (options.transport === "cuda-ipc" && options.serversSeeDevice !== true) {
    throw new ValidationError(
      'transport "cuda-ipc" needs serversSeeDevice: true, your word that every server sees the GPU ' +
        "that this process uses: a server that does not, as with another CUDA_VISIBLE_DEVICES, dies",
    );
  }
  requireOneOf("verify", options.verify, ["version", "sample", "checksum", "off"]);
  const verify = options.verify ?? "version";
  requireOneOf("nameCheck", options.nameCheck, ["servers", "off"]);
  requireOneOf("whenBusy", options.whenBusy, ["wait", "throw"]);
  requireOneOf("whenUnreachable", options.whenUnreachable, ["throw", "skip"]);
  requireOneOf("whenMissed", options.whenMissed, ["keep_paused", "resume"]);
  requireOneOf("isolation", options.isolation, ["server", "fleet"]);
  requireOneOf("castFloat32To", options.castFloat32To, ["bfloat16"]);
  if (options.trainer !== undefined && !/^[^:~\s]{1,200}$/.test(options.trainer)) {
    throw new ValidationError(
      `trainer must be a name of 1 to 200 characters without ":", "~" and blanks, got ` +
        JSON.stringify(options.trainer),
    );
  }
  requireWhole("masterPort", options.masterPort, { from: 1, to: 65535 });
  requireWhole("numWorkers", options.numWorkers, { from: 1, to: 1_000_000 });
  requireWhole("rank", options.rank, { from: 0, to: 1_000_000 });
  requireWhole("bucketBytes", options.bucketBytes, { from: 1, to: Number.MAX_SAFE_INTEGER });
  return {
    apiKey: options.apiKey,
    adminApiKey: options.adminApiKey,
    headers: options.headers,
    masterAddress: options.masterAddress,
    masterPort: options.masterPort,
    bindAddress: options.bindAddress,
    numWorkers: options.numWorkers,
    rank: options.rank ?? 0,
    device: parseDevice(options.device),
    strategy: options.strategy ?? "tensordict",
    transport: options.transport ?? "auto",
    nccl: options.nccl,
    openGroup: options.openGroup,
    disk: options.disk,
    isolation: options.isolation ?? "server",
    keeper: options.keeper,
    bucketBytes: options.bucketBytes ?? DEFAULT_BUCKET_BYTES,
    flattened: options.flattened ?? true,
    castFloat32To: options.castFloat32To,
    pauseMode,
    flushCache,
    verify,
    nameCheck: options.nameCheck ?? "servers",
    tiedWeights: options.tiedWeights && new Map(Object.entries(options.tiedWeights)),
    finite: options.finite ?? (verify === "version" || verify === "off" ? false : "where_possible"),
    whenBusy: options.whenBusy ?? "wait",
    soleTrainer: options.soleTrainer ?? false,
    whenUnreachable: options.whenUnreachable ?? "throw",
    whenMissed: options.whenMissed ?? "keep_paused",
    deadlines,
    trainer: options.trainer,
    logger,
    clock: options.clock ?? systemClock,
  };
}

/** The index of a CUDA device given as TorchRL takes it: null, 5, "cuda" or "cuda:1". */
export function parseDevice(device: number | string | null | undefined): number {
  if (device === undefined || device === null || device === "cuda") return 0;
  if (typeof device === "number" && Number.isSafeInteger(device) && device >= 0) return device;
  const index = typeof device === "string" ? /^cuda:(\d+)$/.exec(device)?.[1] : undefined;
  if (index !== undefined) return Number(index);
  throw new ValidationError(
    `device must be an index of 0 or more, "cuda" or "cuda:N", got ${JSON.stringify(device)}`,
  );
}

function resolvePause(
  options: WeightSyncOptions,
  env: (name: string) => string | undefined,
  logger: Logger,
): { pauseMode: PauseMode; flushCache: boolean | undefined } {
  const fromEnv = env(PAUSE_ENV);
  const pauseMode = options.pauseMode ?? fromEnv ?? "abort";
  if (!isPauseMode(pauseMode)) {
    const name = options.pauseMode === undefined ? PAUSE_ENV : "pauseMode";
    throw new ValidationError(
      `${name} must be one of 'abort', 'retract' or 'in_place', got '${pauseMode}'.`,
    );
  }
  const { flushCache } = options;
  if (flushCache === undefined) {
    const fromFlushEnv = parseFlag(FLUSH_ENV, env(FLUSH_ENV));
    if (fromFlushEnv !== true || pauseMode === "abort") {
      return { pauseMode, flushCache: fromFlushEnv };
    }
    logger.warn(
      `${FLUSH_ENV} asks for a flush, which needs pauseMode 'abort'; it is '${pauseMode}', so the ` +
        `cache is flushed only if the server is idle`,
    );
    return { pauseMode, flushCache: undefined };
  }
  if (flushCache && pauseMode !== "abort") {
    throw new ValidationError(
      `flushCache: true requires pauseMode 'abort', got '${pauseMode}': SGLang only flushes its ` +
        `prefix cache when the scheduler is idle. Leave flushCache unset to flush if it is.`,
    );
  }
  return { pauseMode, flushCache };
}

function isPauseMode(mode: string): mode is PauseMode {
  return mode === "abort" || mode === "retract" || mode === "in_place";
}

function parseFlag(name: string, value: string | undefined): boolean | undefined {
  if (value === undefined || value === "") return undefined;
  if (/^(1|true|yes|on)$/i.test(value)) return true;
  if (/^(0|false|no|off)$/i.test(value)) return false;
  throw new ValidationError(`${name} must be 1 or 0, got '${value}'.`);
}

function resolveDeadlines(given: Partial<WeightDeadlines> | undefined): WeightDeadlines {
  for (const [name, value] of Object.entries(given ?? {})) {
    if (!(value > 0)) {
      throw new ValidationError(`deadlines.${name} must be above 0 milliseconds, got ${value}`);
    }
  }
  const { takeoverMs: _takeover, turnMs: _turn, ...steps } = { ...DEFAULT_DEADLINES, ...given };
  const takeoverMs = given?.beginMs ?? 1.5 * Math.max(...Object.values(steps));
  return { ...DEFAULT_DEADLINES, takeoverMs, ...given };
}

function requireOneOf(name: string, value: string | undefined, allowed: readonly string[]): void {
  if (value === undefined || allowed.includes(value)) return;
  const list = allowed.map((one) => `"${one}"`).join(", ");
  throw new ValidationError(`${name} must be one of ${list}, got ${JSON.stringify(value)}`);
}

function requireWhole(
  name: string,
  value: number | undefined,
  range: { from: number; to: number },
): void {
  if (value === undefined) return;
  if (Number.isSafeInteger(value) && value >= range.from && value <= range.to) return;
  throw new ValidationError(
    `${name} must be a whole number from ${range.from} to ${range.to}, got ${value}`,
  );
}
