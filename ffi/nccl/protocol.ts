/**
 * What the main thread and the thread of a communicator say to each other.
 *
 * @module
 */
import {
  AbortedError,
  LibraryError,
  NativeError,
  PermissionError,
  StateError,
  UnsupportedError,
  ValidationError,
} from "../../src/errors.ts";
import type { Float8Cast, FoundWord, WordRange } from "../../src/collective/group.ts";
import type { LibraryOptions } from "../library.ts";
import type { Address } from "../memory.ts";
import type { NcclDataType } from "./constants.ts";

/** What the thread found when it opened. */
export interface RankInfo {
  /** NCCL's version, such as 2.28.9; absent where NCCL is not needed. */
  readonly ncclVersion: string | undefined;
  /** Where NCCL was found. */
  readonly ncclPath: string | undefined;
  /** The CUDA runtime's version, such as 13000. */
  readonly runtimeVersion: number;
  /** Where the CUDA runtime was found. */
  readonly cudartPath: string;
  /** Newest CUDA version that the driver serves. */
  readonly driverVersion: number;
}

/** Bytes that lie together. */
export interface PlacedBytes {
  /** Where the bytes lie. */
  readonly place: "host" | "device";
  /** Their address there. */
  readonly address: Address;
  /** Their number. */
  readonly byteLength: number;
}

/** Bytes on their way to the device. */
export interface WirePiece extends PlacedBytes {
  /** The bytes are float32 and become bfloat16. */
  readonly cast: boolean;
  /** The bytes are a matrix of which FP8 is made. */
  readonly float8?: Float8Cast | undefined;
}

/** One collective in a request: where its bytes are, and what NCCL gets to know of them. */
export interface WirePart extends PlacedBytes {
  /** NCCL's element type. */
  readonly type: NcclDataType;
  /** Number of elements on the wire. */
  readonly count: number;
}

/** Memory on the device. */
export interface DeviceRange {
  /** Its address. */
  readonly address: Address;
  /** Its size. */
  readonly byteLength: number;
}

/** Every request with its arguments and its answer. */
export interface Requests {
  /** Opens the libraries and the device. */
  open: {
    arguments: {
      libraries: LibraryOptions;
      device: number;
      recorder: SharedArrayBuffer;
      /** Whether NCCL is opened too. */
      collectives: boolean;
    };
    answer: RankInfo;
  };
  /** Makes the id that the ranks of a communicator share. */
  uniqueId: { arguments: Record<never, never>; answer: Uint8Array<ArrayBuffer> };
  /** Joins the communicator; answered when all ranks have. */
  init: {
    arguments: { uniqueId: Uint8Array<ArrayBuffer>; rank: number; worldSize: number };
    answer: undefined;
  };
  /** Broadcasts each part in order; answered when the device is done. */
  broadcast: { arguments: { parts: readonly WirePart[]; root: number }; answer: undefined };
  /** Brings the pieces of each part together on the device, ahead of their broadcast. */
  stage: { arguments: { parts: readonly (readonly WirePiece[])[] }; answer: DeviceRange[] };
  /** Brings pieces together in given memory of the device. */
  gather: { arguments: { target: Address; pieces: readonly WirePiece[] }; answer: undefined };
  /** Pins host memory of the main thread. */
  pin: { arguments: { address: Address; byteLength: number }; answer: undefined };
  /** Takes device memory. */
  allocate: { arguments: { byteLength: number }; answer: Address };
  /** Gives device memory back. */
  free: { arguments: { address: Address }; answer: undefined };
  /** Copies between this process and the device. */
  copy: {
    arguments: { target: Address; source: Address; byteLength: number };
    answer: undefined;
  };
  /** Checksum of device memory. */
  checksum: { arguments: { address: Address; byteLength: number }; answer: bigint };
  /** The first of the words of some memory that are looked for. */
  findWord: { arguments: { ranges: readonly WordRange[] }; answer: FoundWord | undefined };
  /** Handle for other processes, and the device's UUID. */
  ipcHandle: {
    arguments: { address: Address };
    answer: { handle: Uint8Array<ArrayBuffer>; deviceUuid: string };
  };
  /** Maps memory of another process on this host; `free` unmaps it. */
  ipcOpen: {
    arguments: { handle: Uint8Array<ArrayBuffer>; byteLength: number };
    answer: Address;
  };
  /** Free device memory in bytes. */
  freeBytes: { arguments: Record<never, never>; answer: number };
  /** Drops the communicator at once. */
  abort: { arguments: Record<never, never>; answer: undefined };
  /** Ends the communicator, frees everything and ends the thread. */
  close: { arguments: Record<never, never>; answer: undefined };
}

/** Name of a request. */
export type RequestName = keyof Requests;

/** A request as it is posted. */
export interface RequestMessage {
  /** Its number. */
  readonly id: number;
  /** Its name. */
  readonly name: RequestName;
  /** Its arguments. */
  readonly arguments: unknown;
}

/** An answer as it is posted. */
export type AnswerMessage =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly error: PlainError };

/** The native calls that can block; the recorder holds the index of the one under way. */
export const recordedCalls = [
  "none",
  "dlopen",
  "cudaSetDevice",
  "cudaMalloc",
  "cudaFree",
  "cudaHostRegister",
  "cudaMallocHost",
  "cudaMemcpyAsync",
  "cudaStreamSynchronize",
  "ncclGetUniqueId",
  "ncclCommInitRankConfig",
  "ncclBroadcast",
  "ncclCommFinalize",
  "ncclCommDestroy",
  "ncclCommAbort",
  "cuModuleLoadDataEx",
] as const;

/** Name of a native call that can block. */
export type RecordedCall = (typeof recordedCalls)[number];

/** What a thread is doing, readable from another: the call under way and the communicator. */
export class FlightRecorder {
  /** The memory that both threads see. */
  readonly shared: SharedArrayBuffer;
  readonly #call: Int32Array;
  readonly #communicator: BigUint64Array;

  /** Looks at existing memory, or takes new. */
  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(16)) {
    this.shared = shared;
    this.#call = new Int32Array(shared, 0, 1);
    this.#communicator = new BigUint64Array(shared, 8, 1);
  }

  /** Runs a native call and notes it for as long as it runs. */
  during<T>(call: RecordedCall, run: () => T): T {
    Atomics.store(this.#call, 0, recordedCalls.indexOf(call));
    try {
      return run();
    } finally {
      Atomics.store(this.#call, 0, 0);
    }
  }

  /** The native call under way. */
  get call(): RecordedCall {
    return recordedCalls[Atomics.load(this.#call, 0)] ?? "none";
  }

  /** Address of the communicator, or null. */
  get communicator(): Address {
    return Atomics.load(this.#communicator, 0);
  }

  /** Notes the address of the communicator. */
  set communicator(address: Address) {
    Atomics.store(this.#communicator, 0, address);
  }

  /** Gives the right to end the communicator to the one who asks first; null to all others. */
  takeCommunicator(): Address {
    return Atomics.exchange(this.#communicator, 0, 0n);
  }
}

/** An error in a form that can be posted. */
export interface PlainError {
  /** Its class. */
  readonly name: string;
  /** Its message. */
  readonly message: string;
  /** Where it was thrown. */
  readonly stack: string | undefined;
  /** Fields of its class. */
  readonly call?: string;
  /** Fields of its class. */
  readonly result?: number;
  /** Fields of its class. */
  readonly tried?: ReadonlyArray<{ path: string; reason: string }>;
  /** Fields of its class. */
  readonly flag?: string;
}

/** The error in a form that can be posted. */
export function toPlainError(error: unknown): PlainError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), stack: undefined };
  const { name, message, stack } = error;
  if (error instanceof NativeError) {
    return { name, message, stack, call: error.call, result: error.result };
  }
  if (error instanceof LibraryError) return { name, message, stack, tried: error.tried };
  if (error instanceof PermissionError) return { name, message, stack, flag: error.flag };
  return { name, message, stack };
}

/** The error of the class that was thrown on the other thread, which becomes its cause. */
export function fromPlainError(plain: PlainError): Error {
  const { name, message } = plain;
  const cause = new Error(message);
  cause.name = name;
  if (plain.stack !== undefined) cause.stack = plain.stack;
  const options = { cause };
  switch (name) {
    case "NativeError":
      return new NativeError(message, {
        ...options,
        call: plain.call ?? "unknown",
        result: plain.result ?? -1,
      });
    case "LibraryError":
      return new LibraryError(message, { ...options, tried: plain.tried ?? [] });
    case "PermissionError":
      return new PermissionError(message, { ...options, flag: plain.flag ?? "--allow-ffi" });
    case "ValidationError":
      return new ValidationError(message, options);
    case "UnsupportedError":
      return new UnsupportedError(message, options);
    case "StateError":
      return new StateError(message, options);
    case "AbortedError":
      return new AbortedError(message.replace(/^Aborted in phase "|"$/g, ""), options);
    default:
      return new NativeError(message, { ...options, call: "unknown", result: -1 });
  }
}
