import type { OptionNames } from "../internal/option_names.ts";
import type { TensorInfo } from "../checkpoint/dtype.ts";

/** One broadcast: consecutive bytes, sent to every server as one collective. */
export interface BroadcastPart {
  /** The bytes, C-contiguous. */
  readonly bytes: Uint8Array;
  /** Element type on the wire; `uint8` for a flattened bucket. */
  readonly dtype: TensorInfo["dtype"];
}

/** Memory of the group's device. */
export interface DeviceMemory {
  /** Address on the device. */
  readonly address: bigint;
  /** Size in bytes. */
  readonly byteLength: number;
}

/** One broadcast from memory of the group's device. */
export interface DevicePart {
  /** Where the bytes lie; they must not change until the broadcast is done. */
  readonly device: DeviceMemory;
  /** Element type on the wire. */
  readonly dtype: TensorInfo["dtype"];
}

/** Bytes that are to lie on the device before their broadcast. */
export interface StagePart extends BroadcastPart {
  /** The bytes are float32 and become `dtype`, bfloat16, on the device. */
  readonly castFrom?: "float32" | undefined;
}

/** Bytes that lie together, in this process or on the group's device already. */
export type StagePiece =
  & ({ readonly bytes: Uint8Array } | { readonly device: DeviceMemory })
  & {
    /** The bytes are float32 and become bfloat16 on the device. */
    readonly castFrom?: "float32" | undefined;
    /** The bytes are a matrix of which FP8 values or their scales are made on the device. */
    readonly float8?: Float8Cast | undefined;
  };

/** Half of what a matrix becomes as FP8 with a scale for each block of 128 by 128. */
export interface Float8Cast {
  /** Its name, for errors. */
  readonly name: string;
  /** Its element type. */
  readonly from: "bfloat16" | "float32";
  /** Its rows. */
  readonly rows: number;
  /** Its columns. */
  readonly columns: number;
  /** Which half: `float8_e4m3fn` values, or float32 scales. */
  readonly part: "values" | "scales";
}

/** Memory of a device in which words are looked for: `((word & mask) + add) & test` is not 0. */
export interface WordRange {
  /** The memory. */
  readonly device: DeviceMemory;
  /** Bits that are looked at. */
  readonly mask: number;
  /** What is added to them. */
  readonly add: number;
  /** Bits of the sum that tell. */
  readonly test: number;
  /** 2: only every second word counts, from the second on. */
  readonly step: 1 | 2;
}

/** A word that was found. */
export interface FoundWord {
  /** Index of the range. */
  readonly range: number;
  /** Index of the 32-bit word in it. */
  readonly index: number;
  /** The word, filled with zeros at the end of the range. */
  readonly word: number;
}

/** A broadcast whose bytes lie in several places and follow each other on the wire. */
export interface GatheredPart {
  /** The bytes in wire order. */
  readonly pieces: readonly StagePiece[];
  /** Element type on the wire; `uint8` for a flattened bucket. */
  readonly dtype: TensorInfo["dtype"];
}

/** What every call of a transport takes. */
export interface TransportCall {
  /** Fires at the phase's deadline, on failure elsewhere, and with the caller's own signal. */
  readonly signal: AbortSignal;
  /**
   * Called once our side of a broadcast is sure to be done, whatever becomes of this process: from
   * then on servers may be told to join it. Groups that do not outlive us need not call it.
   */
  readonly queued?: (() => void) | undefined;
}

/** Looks for a word in memory of the device: the first one of the first range that has one. */
export type FindWord = (
  ranges: readonly WordRange[],
  call: TransportCall,
) => Promise<FoundWord | undefined>;

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

/** The names of all of them. */
export const OPEN_GROUP_NAMES = {
  masterAddress: true,
  masterPort: true,
  bindAddress: true,
  groupName: true,
  worldSize: true,
} as const satisfies OptionNames<OpenGroupOptions>;

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
  /** Why no further collective can succeed, as soon as that is known: a peer is gone. */
  readonly failure?: Error | undefined;
  /** How many connections that were no rank's were dropped so far, where the group can tell. */
  readonly strangers?: number | undefined;
  /** Whether the servers are let go when this process is killed within a broadcast. */
  readonly outlivesUs?: boolean | undefined;
  /**
   * Whether a broadcast may be asked for while others are under way: they are done in the order in
   * which they were asked for. Default: one at a time.
   */
  readonly queues?: boolean | undefined;
  /** Whether {@linkcode CollectiveGroup.stage} takes pieces with `float8`. Default false. */
  readonly makesFloat8?: boolean | undefined;
  /** For how many calls what {@linkcode CollectiveGroup.stage} gives stays valid. Default 2. */
  readonly stagingSlots?: number | undefined;
  /** How far the group has come and what was last heard from its ranks, for error messages. */
  readonly heard?: string | undefined;
  /** Completes rank 0's side of the rendezvous; called while the servers' init calls run. */
  connect(call: TransportCall): Promise<void>;
  /**
   * Memory from which this group sends fastest (pinned, for a GPU); the group owns it. A group
   * without it is given plain memory.
   */
  stagingBuffer?(byteLength: number): Uint8Array;
  /**
   * Brings parts together on the device while another broadcast is under way; what it gives is to
   * be passed to {@linkcode CollectiveGroup.broadcastDevice} and is valid until the next call but
   * one, or longer where `stagingSlots` says so. A part that lies in one piece on the device already
   * is given back as it is. Absent where there is no device.
   */
  stage?(
    parts: readonly (StagePart | GatheredPart)[],
    call: TransportCall,
  ): Promise<DevicePart[]>;
  /** Like {@linkcode CollectiveGroup.broadcast}, from memory of the device. */
  broadcastDevice?(parts: readonly DevicePart[], call: TransportCall): Promise<void>;
  /** Sends each part as one broadcast, in order; resolves when all have left this process. */
  broadcast(parts: readonly BroadcastPart[], call: TransportCall): Promise<void>;
  /** Drops the group at once, so that no collective of ours can block. Never rejects. */
  abort(reason: Error): Promise<void>;
  /** Ends the group after the servers have left it. */
  close(): Promise<void>;
}
