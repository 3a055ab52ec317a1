import type { TensorInfo } from "../checkpoint/dtype.ts";

/** Tensors that travel together: names, types and shapes in wire order, and their bytes. */
export interface Bucket {
  /** The tensors, in the order in which their bytes follow each other. */
  readonly tensors: readonly TensorInfo[];
  /** Sum of the tensors' sizes. */
  readonly byteLength: number;
}

/** One broadcast: consecutive bytes, sent to every server as one collective. */
export interface BroadcastPart {
  /** The bytes, C-contiguous. */
  readonly bytes: Uint8Array;
  /** Element type on the wire; `uint8` for a flattened bucket. */
  readonly dtype: TensorInfo["dtype"];
}

/** What every call of a transport takes. */
export interface TransportCall {
  /** Fires at the phase's deadline, on failure elsewhere, and with the caller's own signal. */
  readonly signal: AbortSignal;
}

/** What a group is opened with. */
export interface OpenGroupOptions {
  /** Address that the servers connect to. */
  readonly masterAddress: string;
  /** Port that the servers connect to; 0 lets the system choose. */
  readonly masterPort: number;
  /** Address to listen on, when it differs from `masterAddress` (containers, NAT). */
  readonly bindAddress?: string | undefined;
  /** Name of the group, new for every group. */
  readonly groupName: string;
  /** 1 + the servers' ranks. */
  readonly worldSize: number;
}

/**
 * Makes a group: listens at the master address, contacts nobody. An address that cannot be listened
 * on is told here, before a server is asked to connect to it and blocks.
 */
export type OpenGroup = (
  options: OpenGroupOptions,
  call: TransportCall,
) => Promise<CollectiveGroup>;

/**
 * A group of one sender (rank 0) and the servers' ranks, open for collectives. The HTTP calls that
 * make the servers join are made by the caller; this is only the wire.
 */
export interface CollectiveGroup extends AsyncDisposable {
  /** Backend name as SGLang takes it. */
  readonly backend: "nccl" | "gloo";
  /** Address that the servers connect to. */
  readonly masterAddress: string;
  /** Port that the servers connect to. */
  readonly masterPort: number;
  /** Name of the group. */
  readonly groupName: string;
  /** 1 + the servers' ranks. */
  readonly worldSize: number;
  /** Completes rank 0's side of the rendezvous; called while the servers' init calls run. */
  connect(call: TransportCall): Promise<void>;
  /**
   * Memory from which this group sends fastest (pinned, for a GPU); the group owns it. A group
   * without it is given plain memory.
   */
  stagingBuffer?(byteLength: number): Uint8Array;
  /** Sends each part as one broadcast, in order; resolves when all have left this process. */
  broadcast(parts: readonly BroadcastPart[], call: TransportCall): Promise<void>;
  /** Drops the group at once, so that no collective of ours can block. Never rejects. */
  abort(reason: Error): Promise<void>;
  /** Ends the group after the servers have left it. */
  close(): Promise<void>;
}
