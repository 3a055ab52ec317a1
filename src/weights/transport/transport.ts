import type { SGLangClient } from "../../client/client.ts";
import { GlooGroup } from "../../collective/gloo/group.ts";
import type { FindWord, OpenGroup } from "../../collective/group.ts";
import { UnsupportedError } from "../../errors.ts";
import type { FleetServer, ServerGroup } from "../fleet/server.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { WeightDeadlines } from "../deadlines.ts";
import { hostOf, isLoopback } from "../../internal/hostname.ts";
import type { Logger } from "../../internal/logger.ts";
import type { OpenWeightSource, WeightSource } from "../source/source.ts";
import type { PlannedBucket } from "../sync/plan.ts";
import type { SyncPhase } from "../sync/progress.ts";
import { CollectiveTransport, groupsOnly, type OpenWay } from "./collective.ts";
import { CudaIpcTransport } from "./cuda_ipc.ts";
import { DiskTransport } from "./disk.ts";
import { openNcclWay } from "./nccl.ts";

/** A server that takes part in a sync, as a transport sees it. */
export interface TransportServer {
  /** Its address. */
  readonly url: string;
  /** Its calls; they have no deadline of their own. */
  readonly client: SGLangClient;
  /** Its tensor-parallel ranks. */
  readonly tpSize: number;
  /** Its SGLang version. */
  readonly version: string;
  /** Whether it computes on a CPU. */
  readonly isCpu: boolean;
  /** Which models of one with a draft model take an update; to be sent with it. */
  readonly selector?: "all" | "target" | undefined;
  /**
   * The sync's mark on it. Sent with every update as its weight version: should an update arrive after
   * another trainer's sync, then the server tells with its next answer that it holds something else.
   */
  readonly ownMark?: string | undefined;
  /** Headers that its control calls need, such as its key. */
  readonly controlHeaders: Readonly<Record<string, string>>;
  /** Lets it join a group, at the rank that the fleet gave it unless the group says another. */
  joinGroup(group: ServerGroup, signal: AbortSignal): Promise<void>;
  /** Lets it leave every group of ours. */
  leaveGroups(signal: AbortSignal): Promise<void>;
  /** Notes why it is not well; users read it as the server's `problem`. */
  note(problem: string): void;
}

/** What a transport needs to open its way to the servers. */
export interface TransportLink {
  /** The servers that take part, in the order of their ranks. */
  readonly servers: readonly TransportServer[];
  /** Runs a part of the work under a name, which progress and errors tell. */
  step<T>(phase: SyncPhase, message: string, work: () => Promise<T>): Promise<T>;
  /** The caller's cancellation. */
  readonly signal: AbortSignal | undefined;
}

/** A call of a server's API that is made when the trainer is gone. */
export interface WillCall {
  /** Path below the server's address. */
  readonly path: string;
  /** Body, sent as JSON. */
  readonly body: unknown;
}

/** One sync, as a transport sees it. */
export interface TransportRun extends TransportLink {
  /** The weights. */
  readonly source: WeightSource;
  /** The weights, open. */
  readonly open: OpenWeightSource;
  /** What is sent, in order. */
  readonly buckets: readonly PlannedBucket[];
  /** The version that the servers shall have, unless another trainer comes first. */
  readonly version: string;
}

/** What the sync gives to each {@linkcode TransportUpdate}. */
export interface UpdateCall {
  /** Its name, for errors. */
  readonly phase: string;
  /** Longest wait, in milliseconds. */
  readonly timeoutMs: number;
  /** Fires when the caller cancels, or when the servers of this call are left behind. */
  readonly signal: AbortSignal | undefined;
  /** Who is to take it: one server where the transport isolates them, else all of the sync. */
  readonly servers: readonly TransportServer[];
  /**
   * Runs the call after which a server holds other weights; from its outcome the sync knows what the
   * server holds. Every update calls it once for every server of the call.
   */
  whileUpdating(server: TransportServer, call: () => Promise<void>): Promise<void>;
  /** The updates before and after it to the same servers, for who can have several on their way. */
  readonly queue?: UpdateQueue | undefined;
}

/** An update's place among others to the same servers, which are told of them one after the other. */
export interface UpdateQueue {
  /** Resolves when the servers may be told of this one: they have answered the one before. */
  readonly turn: Promise<void>;
  /** To be called once our side of this one was asked for: the next may be sent from then on. */
  asked(): void;
  /** To be called once every server has answered this one, however far our side is. */
  answered(): void;
}

/** One change of the servers' weights, such as a bucket. */
export interface TransportUpdate {
  /** What it is, for progress and errors: `"update bucket 2 of 5"`. */
  readonly message: string;
  /** Bytes that it brings. */
  readonly byteLength: number;
  /** Sends it; resolves when every server of the call has answered that it took it. */
  send(call: UpdateCall): Promise<void>;
}

/**
 * A way in which weights reach servers. The sync calls `prepare`, then pauses the servers, then sends
 * the updates one after another, and at a failure `abort`.
 */
export interface Transport extends AsyncDisposable {
  /** Its name. */
  readonly name: string;
  /** Whether servers from 0.5.22 want a session around its updates. */
  readonly needsSession: boolean;
  /**
   * Whether a server takes its updates apart from the others. Then each is sent to every server by
   * itself, and a server that fails or freezes holds up none of the others, which are ahead of the
   * slowest by no more than the buckets that are ready.
   */
  readonly isolates?: boolean | undefined;
  /** Whether its way to the servers is open. */
  readonly isConnected: boolean;
  /** Opens what can be opened before there are weights. */
  connect(link: TransportLink): Promise<void>;
  /**
   * Who looks at words in memory of the device that it sends from; `undefined`, or no such method:
   * nobody can.
   */
  wordFinder?(signal: AbortSignal | undefined): Promise<FindWord | undefined>;
  /** Does what the first sync need not do then, in servers and here; called after `connect`. */
  warmUp?(link: TransportLink): Promise<void>;
  /**
   * Says what is to be done with a server, by whoever outlives this process, when it is killed: calls
   * of the server's API, in order. Absent where nobody does.
   */
  readonly setWill?:
    | ((server: TransportServer, calls: readonly WillCall[]) => Promise<void>)
    | undefined;
  /** Does all that can be done while the servers still generate; returns what is to be sent. */
  prepare(run: TransportRun): Promise<readonly TransportUpdate[]>;
  /** Ends what is open, so that `prepare` opens it again. */
  reset(): Promise<void>;
  /** After a failure: lets go, so that nothing of ours can block a server. Never rejects. */
  abort(error: Error): Promise<void>;
}

/** What a transport knows of the sender that it is made for. */
export interface TransportSettings {
  /** Limit of a bucket, in bytes. */
  readonly bucketBytes: number;
  /** Whether a bucket travels as one piece. */
  readonly flattened: boolean;
  /** CUDA device of rank 0. */
  readonly device: number;
  /** Longest waits. */
  readonly deadlines: WeightDeadlines;
  /** Where it reports. */
  readonly logger: Logger;
}

/** Makes a transport for one sender; nothing is opened yet. */
export type OpenTransport = (settings: TransportSettings) => Transport;

/** How weights reach the servers. */
export type TransportName = "nccl" | "gloo" | "disk" | "cuda-ipc";

function plainWay(openGroup: OpenGroup, options: ResolvedOptions): OpenWay {
  return () => Promise.resolve(groupsOnly(options.openGroup ?? openGroup));
}

function ncclWay(options: ResolvedOptions): OpenWay {
  const { openGroup } = options;
  if (openGroup !== undefined) return plainWay(openGroup, options);
  return (signal) => openNcclWay(options, signal);
}

/** Every transport: its name, and how one is made. */
const transports: Record<TransportName, (options: ResolvedOptions) => Transport> = {
  nccl: (options) => new CollectiveTransport("nccl", ncclWay(options), options),
  gloo: (options) => new CollectiveTransport("gloo", plainWay(GlooGroup.open, options), options),
  disk: (options) => new DiskTransport(options),
  "cuda-ipc": (options) => new CudaIpcTransport(options),
};

/** The names of all transports. */
export const TRANSPORT_NAMES = Object.keys(transports) as TransportName[];

/** A transport and why it was picked. */
export interface TransportChoice {
  /** The transport. */
  readonly transport: TransportName | OpenTransport;
  /** Why, in words. */
  readonly reason: string;
}

/**
 * Picks a transport by where the servers run: `gloo` for servers on a CPU, `nccl` for servers on a
 * GPU.
 */
export function chooseTransport(
  servers: readonly FleetServer[],
  options: Pick<ResolvedOptions, "transport">,
): TransportChoice {
  const { transport } = options;
  if (transport !== "auto") return { transport, reason: "the options ask for it" };
  const onCpu = servers.filter(({ isCpu }) => isCpu);
  if (onCpu.length === servers.length) {
    return { transport: "gloo", reason: "the servers compute on a CPU" };
  }
  if (onCpu.length > 0) {
    throw new UnsupportedError(
      `Some servers compute on a CPU (${onCpu.map(({ url }) => url).join(", ")}) and some on a ` +
        'GPU: no process group holds both. Sync them apart, or use transport "disk"',
    );
  }
  // Not chosen unasked: whether the devices can map each other's memory shows only in trying.
  const hint = servers.every(({ url }) => isLoopback(hostOf(url)))
    ? '; they run on this host, where "cuda-ipc" is faster'
    : "";
  return { transport: "nccl", reason: `the servers compute on GPUs${hint}` };
}

/** Makes the transport of a choice. */
export function makeTransport(choice: TransportChoice, options: ResolvedOptions): Transport {
  return typeof choice.transport === "function"
    ? choice.transport(options)
    : transports[choice.transport](options);
}
