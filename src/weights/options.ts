import type { SGLangClient } from "../client/client.ts";
import type { PauseMode } from "../client/types.ts";
import type { OpenGroup } from "../collective/group.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import type { WeightDeadlines } from "./deadlines.ts";
import type { WeightServerState } from "./fleet/server.ts";
import type { WeightSource } from "./source/source.ts";
import type { ModelMetadata } from "./sync/names.ts";
import type { OpenTransport, TransportName } from "./transport/transport.ts";
import type { VersionLedger } from "./version_ledger.ts";

/** How weights that are given as plain objects are read. */
export type WeightStrategy = "tensordict" | "state_dict";

/** What is asked of the servers before a sync counts as done. */
export type VerifyLevel = "version" | "sample" | "checksum" | "off";

/** What the names of weights are compared with: see the option `nameCheck`. */
export type NameCheck = "servers" | "where_possible" | "off";

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

/** What every sync can be told, whichever servers and whatever transport; all has a default. */
export interface WeightSyncFields {
  /** Key of the servers. */
  readonly apiKey?: string | undefined;
  /** Admin key of the servers, when they have one. */
  readonly adminApiKey?: string | undefined;
  /** Further headers of every call, for a gateway before the servers. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** HTTP proxy for the calls: its address, or `"environment"`. Default none. */
  readonly proxy?: string | undefined;
  /** Certificates, in PEM, that are trusted for https besides the system's. */
  readonly caCerts?: readonly string[] | undefined;
  /** Ranks of all servers together; checked when given. Default: what the servers tell. */
  readonly numWorkers?: number | undefined;
  /** This process's rank among the trainer's; only 0 sends. Default 0. */
  readonly rank?: number | undefined;
  /** CUDA device of rank 0: an index, `"cuda"` or `"cuda:1"`. Default 0. */
  readonly device?: number | string | undefined;
  /** How plain objects are read. Default `"tensordict"`, which takes flat state dicts too. */
  readonly strategy?: WeightStrategy | undefined;
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
  /**
   * What the names are checked with when none are declared. `"servers"`: the checkpoint that the
   * servers have, which must be readable here; `"where_possible"`: the same, but a model whose folder
   * is not here is a warning to `logger`; `"off"`: nothing. Default `"servers"`.
   */
  readonly nameCheck?: NameCheck | undefined;
  /**
   * Your word that weights share memory: tied name to kept name. A tied one may stay behind when the
   * kept one is sent. Default: `lm_head` with the embedding, if the config of the servers' model says
   * `tie_word_embeddings` and its checkpoint has no head; else none.
   */
  readonly tiedWeights?: Readonly<Record<string, string>> | undefined;
  /**
   * Refuse weights with NaN or infinities, as after a training step that diverged: of memory and of
   * files before anything is sent, of an iterator as it gives them. Default true, but false for
   * `verify: "off"`, and for more than 1 GiB with `verify: "version"`: looking takes half a second for
   * each GiB, while the servers still generate. Weights in memory of a GPU are looked at by transport
   * `"nccl"` when it is true; the default lets them through.
   */
  readonly finite?: boolean | undefined;
  /**
   * What becomes of draft models (speculative decoding, multi-token prediction). `"update"`: layers of
   * the served checkpoint are brought along, and what could not be is refused by name before anything
   * is sent; `"keep"`: they stay as they are, which costs speed but no answer. Default `"update"`.
   */
  readonly draft?: "update" | "keep" | undefined;
  /** What a second `updateWeights` does while one runs. Default `"wait"`. */
  readonly whenBusy?: "wait" | "throw" | undefined;
  /**
   * Your word that no other trainer syncs these servers, which saves the 30 ms in which two could
   * meet. One that does all the same is still noticed at the end. Default false.
   */
  readonly soleTrainer?: boolean | undefined;
  /** Go on without servers that do not answer. Default `"throw"`. */
  readonly whenUnreachable?: "throw" | "skip" | undefined;
  /**
   * What becomes of a server that somebody else had paused before a sync. `"keep"`: it holds the new
   * weights and stays paused until whoever paused it resumes it. `"resume"`: it generates. Default:
   * `"keep"`, but one that the first sync of a sender finds paused generates afterwards, with a
   * warning to `logger`, as a trainer that was killed may have left it so. A pause that comes while a
   * sync runs ends with it.
   */
  readonly whenPaused?: "keep" | "resume" | undefined;
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

/** The servers of a sync: exactly one of the three. */
export type WeightServers =
  | {
    /** Address of one server. */
    readonly serverUrl: string;
    readonly engine?: undefined;
    readonly workers?: undefined;
  }
  | {
    /** An engine whose servers are updated. */
    readonly engine: WeightEngine;
    readonly serverUrl?: undefined;
    readonly workers?: undefined;
  }
  | {
    /** Addresses of several servers. */
    readonly workers: readonly (string | WeightWorker)[];
    readonly serverUrl?: undefined;
    readonly engine?: undefined;
  };

/** Options of the transports; which of them a transport takes is in {@linkcode TransportOptions}. */
export interface TransportFields {
  /**
   * How weights travel: by name, or by what makes a {@linkcode Transport} of one's own. Default
   * `"auto"`, which picks by where the servers run.
   */
  readonly transport?: TransportName | "auto" | OpenTransport | undefined;
  /** Address that the servers connect to. Default: this machine's address towards the servers. */
  readonly masterAddress?: string | undefined;
  /** Port that the servers connect to. Default: a free one of 1024 to 55535. */
  readonly masterPort?: number | undefined;
  /** Address to listen on, when it is not `masterAddress`. */
  readonly bindAddress?: string | undefined;
  /** Opens a group of one's own kind for `nccl` and `gloo`. */
  readonly openGroup?: OpenGroup | undefined;
  /**
   * What the transports `nccl` and `gloo` join into one group. `"server"`, the default: each server
   * has a group of its own, so that one which dies or freezes in an update holds up none of the
   * others; every byte is sent once for each server. `"fleet"`: one group over all servers, a byte is
   * sent once; over NVLink or P2P a server that is killed in an update freezes the others for good.
   */
  readonly isolation?: "server" | "fleet" | undefined;
  /** Where NCCL and the CUDA runtime are; they must be the servers' copies. */
  readonly nccl?: NcclLibraries | undefined;
  /**
   * For `nccl`: rank 0 lives in a process of its own, the keeper, which outlives this one: when this
   * process is killed within an update, it lets the servers go and resumes those that hold old
   * weights. It needs `--allow-run` for Deno itself. Default: where that is granted, with a warning
   * where not. `true` insists on it, `false` keeps rank 0 in this process.
   */
  readonly keeper?: boolean | undefined;
  /**
   * Required for `transport: "cuda-ipc"`: your word that the processes of every server see the GPU
   * of `device`, so `CUDA_VISIBLE_DEVICES` does not hide it from them. No server tells, and one that
   * does not see it dies of the memory handle (seen on SGLang 0.5.16).
   */
  readonly serversSeeDevice?: boolean | undefined;
  /** Where the transport `disk` writes; not needed for a source that is a folder. */
  readonly disk?: DiskOptions | undefined;
}

/** What joins servers into a process group. */
export type GroupField = "masterAddress" | "masterPort" | "bindAddress" | "openGroup" | "isolation";

/** Options that a transport by its name takes beside `transport`. */
export interface FieldsOfTransport {
  /** A group over NCCL. */
  readonly "nccl": GroupField | "nccl" | "keeper";
  /** A group over gloo. */
  readonly "gloo": GroupField;
  /** Memory handles of one GPU. */
  readonly "cuda-ipc": "nccl" | "serversSeeDevice";
  /** Files in a folder. */
  readonly "disk": "disk";
}

/** The options of one transport; those of another do not compile. */
export type OptionsOfTransport<Name extends TransportName> =
  & { readonly transport: Name }
  & Pick<TransportFields, FieldsOfTransport[Name]>
  & {
    readonly [Key in Exclude<keyof TransportFields, FieldsOfTransport[Name] | "transport">]?:
      undefined;
  }
  & (Name extends "cuda-ipc" ? { readonly serversSeeDevice: true } : unknown);

/**
 * How weights travel, and the options of just that way. `"auto"` and transports of one's own take
 * those of all.
 */
export type TransportOptions =
  | (Omit<TransportFields, "transport"> & {
    readonly transport?: "auto" | OpenTransport | undefined;
  })
  | { [Name in TransportName]: OptionsOfTransport<Name> }[TransportName];

/** How weights are synced, whichever servers; all has a default. */
export type WeightSyncSettings = WeightSyncFields & TransportOptions;

/**
 * How weights are synced, and to which servers: one of `serverUrl`, `engine` and `workers`; all else
 * has a default.
 */
export type WeightSyncOptions = WeightServers & WeightSyncSettings;

/** The same options before anybody checked that they go together. */
export interface GivenOptions extends WeightSyncFields, TransportFields {
  readonly serverUrl?: string | undefined;
  readonly engine?: WeightEngine | undefined;
  readonly workers?: readonly (string | WeightWorker)[] | undefined;
}

/** How a sync ended, for the engine whose servers it was for. */
export interface FleetSync {
  /** The version that it brought, or was to bring; `undefined` where it failed before that. */
  readonly version: string | undefined;
  /** Whether it succeeded. */
  readonly isDone: boolean;
  /** What became of every server, also of those that were left out. */
  readonly servers: readonly WeightServerState[];
  /** The weights. */
  readonly source: WeightSource;
  /**
   * What the source's files were, where it has files: as long as they are the same, the same weights
   * can be brought to another server later.
   */
  readonly fingerprint: string | undefined;
  /** How it was done, without the servers. */
  readonly options: WeightSyncSettings;
  /** What the trainer declared of its weights. */
  readonly declared: ModelMetadata | undefined;
}
