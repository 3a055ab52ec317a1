/**
 * Checked calls of NCCL.
 *
 * @module
 */
import { NativeError, UnsupportedError, ValidationError } from "../../src/errors.ts";
import { OwnedHandle } from "../handle.ts";
import { libcSymbols } from "../libc/symbols.ts";
import { type LibraryOptions, openLibrary } from "../library.ts";
import { type Address, Memory, nullAddress } from "../memory.ts";
import type { Stream } from "../cudart/handles.ts";
import { packConfig } from "./config.ts";
import { type NcclDataType, type NcclReduction, NcclResult, UNIQUE_ID_BYTES } from "./constants.ts";
import { ncclSymbols } from "./symbols.ts";

type Calls = Deno.DynamicLibrary<typeof ncclSymbols>["symbols"];

/** Which elements a collective moves, and on which stream. */
export interface CollectiveArguments {
  /** Number of elements. */
  readonly count: number;
  /** Their type. */
  readonly type: NcclDataType;
  /** The stream that does the work. */
  readonly stream: Stream;
}

/** A communicator with one owner: destroyed properly, or aborted when disposed. */
export class CommunicatorHandle extends OwnedHandle {
  readonly #abort: (address: Address) => void;

  /** Takes ownership; made by `Nccl.beginInit`. */
  constructor(address: Address, abort: (address: Address) => void) {
    super("NCCL communicator", address);
    this.#abort = abort;
  }

  /** Aborts the communicator. */
  protected override release(address: Address): void {
    this.#abort(address);
  }
}

/** NCCL's version as a number (22809) and as people write it (2.28.9). */
export interface NcclVersion {
  /** Code as NCCL gives it. */
  readonly code: number;
  /** Three parts joined with dots. */
  readonly text: string;
}

/** Splits NCCL's version code, as `NCCL_VERSION` in `nccl.h` makes it. */
export function describeVersion(code: number): NcclVersion {
  const unit = code < 10_000 ? 1000 : 10_000;
  const parts = [Math.floor(code / unit), Math.floor((code % unit) / 100), code % 100];
  return { code, text: parts.join(".") };
}

/** NCCL. Its communicators do not wait: calls that need peers report "in progress". */
export class Nccl {
  /** Path of the library. */
  readonly path: string;
  readonly #calls: Calls;
  readonly #memory: Memory;
  readonly #word = new BigUint64Array(1);
  readonly #wordBytes = new Uint8Array(this.#word.buffer);
  readonly #int = new Int32Array(this.#word.buffer, 0, 1);

  private constructor(calls: Calls, memory: Memory, path: string) {
    this.#calls = calls;
    this.#memory = memory;
    this.path = path;
  }

  /**
   * Opens the library. SGLang's processes run with `NCCL_CUMEM_ENABLE=0` and `NCCL_NVLS_ENABLE=0`
   * unless told otherwise (`entrypoints/engine.py`), and rank 0 has to agree: both are set in this
   * process too, unless they are set already.
   *
   * @throws {LibraryError} It is nowhere.
   */
  static open(options: LibraryOptions = {}): Nccl {
    const library = openLibrary("nccl", { ...ncclSymbols, ...libcSymbols }, options);
    const memory = new Memory(library.symbols);
    memory.setDefaultEnvironment("NCCL_CUMEM_ENABLE", "0");
    memory.setDefaultEnvironment("NCCL_NVLS_ENABLE", "0");
    return new Nccl(library.symbols, memory, library.path);
  }

  /** Throws when `result` is neither success nor in progress. */
  check(result: number, call: string, communicator: Address = nullAddress): void {
    if (result === NcclResult.success || result === NcclResult.inProgress) return;
    const last = this.#memory.cString(this.#calls.ncclGetLastError(communicator)).trim();
    throw new NativeError(
      `${call} failed with ${result} (${this.errorText(result)})${last && `: ${last}`}` +
        adviceFor(result, last),
      { call, result },
    );
  }

  /** NCCL's words for a result. */
  errorText(result: number): string {
    return this.#memory.cString(this.#calls.ncclGetErrorString(result));
  }

  /** The library's version. All ranks of a group need the same. */
  version(): NcclVersion {
    this.check(this.#calls.ncclGetVersion(this.#wordBytes), "ncclGetVersion");
    return describeVersion(this.#int[0]!);
  }

  /** A new id for a communicator. Starts a thread and a listening socket that serve its ranks. */
  uniqueId(): Uint8Array<ArrayBuffer> {
    const id = new Uint8Array(UNIQUE_ID_BYTES);
    this.check(this.#calls.ncclGetUniqueId(id), "ncclGetUniqueId");
    return id;
  }

  /** Begins to join a communicator; {@linkcode Nccl.isSettled} tells when all ranks have. */
  beginInit(
    uniqueId: Uint8Array<ArrayBuffer>,
    place: { readonly rank: number; readonly worldSize: number },
  ): CommunicatorHandle {
    if (uniqueId.byteLength !== UNIQUE_ID_BYTES) {
      throw new ValidationError(
        `A unique id has ${UNIQUE_ID_BYTES} bytes, not ${uniqueId.byteLength}`,
      );
    }
    const { rank, worldSize } = place;
    this.#word[0] = nullAddress;
    const config = packConfig({ blocking: false });
    const result = this.#calls.ncclCommInitRankConfig(
      this.#wordBytes,
      worldSize,
      uniqueId,
      rank,
      config,
    );
    this.check(result, "ncclCommInitRankConfig");
    return new CommunicatorHandle(this.#word[0]!, (address) => {
      this.check(this.#calls.ncclCommAbort(address), "ncclCommAbort");
    });
  }

  /** Whether the last call has ended. @throws {NativeError} The communicator has failed. */
  isSettled(communicator: CommunicatorHandle, call: string): boolean {
    const { address } = communicator;
    const asked = this.#calls.ncclCommGetAsyncError(address, this.#wordBytes);
    this.check(asked, "ncclCommGetAsyncError", address);
    const state = this.#int[0]!;
    this.check(state, call, address);
    return state === NcclResult.success;
  }

  /** Number of ranks of a communicator that is settled. */
  count(communicator: CommunicatorHandle): number {
    const { address } = communicator;
    this.check(this.#calls.ncclCommCount(address, this.#wordBytes), "ncclCommCount", address);
    return this.#int[0]!;
  }

  /** Our rank in a communicator that is settled. */
  rank(communicator: CommunicatorHandle): number {
    const { address } = communicator;
    this.check(this.#calls.ncclCommUserRank(address, this.#wordBytes), "ncclCommUserRank", address);
    return this.#int[0]!;
  }

  /** Sends from, or receives into, `buffer`. */
  broadcast(
    communicator: CommunicatorHandle,
    buffer: Address,
    args: CollectiveArguments & { readonly root: number },
  ): void {
    const { address } = communicator;
    const { count, type, root, stream } = args;
    const result = this.#calls.ncclBroadcast(
      buffer,
      buffer,
      BigInt(count),
      type,
      root,
      address,
      stream.address,
    );
    this.check(result, "ncclBroadcast", address);
  }

  /** Combines every rank's `buffer` in place. */
  allReduce(
    communicator: CommunicatorHandle,
    buffer: Address,
    args: CollectiveArguments & { readonly reduction: NcclReduction },
  ): void {
    const { address } = communicator;
    const { count, type, reduction, stream } = args;
    const result = this.#calls.ncclAllReduce(
      buffer,
      buffer,
      BigInt(count),
      type,
      reduction,
      address,
      stream.address,
    );
    this.check(result, "ncclAllReduce", address);
  }

  /** Sends `buffer` to one rank. */
  send(
    communicator: CommunicatorHandle,
    buffer: Address,
    args: CollectiveArguments & { readonly peer: number },
  ): void {
    const { address } = communicator;
    const { count, type, peer, stream } = args;
    const result = this.#calls.ncclSend(
      buffer,
      BigInt(count),
      type,
      peer,
      address,
      stream.address,
    );
    this.check(result, "ncclSend", address);
  }

  /** Receives into `buffer` from one rank. */
  receive(
    communicator: CommunicatorHandle,
    buffer: Address,
    args: CollectiveArguments & { readonly peer: number },
  ): void {
    const { address } = communicator;
    const { count, type, peer, stream } = args;
    const result = this.#calls.ncclRecv(
      buffer,
      BigInt(count),
      type,
      peer,
      address,
      stream.address,
    );
    this.check(result, "ncclRecv", address);
  }

  /**
   * Runs several calls as one group. Broadcasts of different sizes do not belong in one: a peer
   * that issues them singly, as SGLang does, hangs.
   */
  grouped(communicator: CommunicatorHandle, calls: () => void): void {
    this.check(this.#calls.ncclGroupStart(), "ncclGroupStart");
    try {
      calls();
    } finally {
      this.check(this.#calls.ncclGroupEnd(), "ncclGroupEnd", communicator.address);
    }
  }

  /** Begins to end the communicator; it is settled when its work is done. */
  beginFinalize(communicator: CommunicatorHandle): void {
    const { address } = communicator;
    this.check(this.#calls.ncclCommFinalize(address), "ncclCommFinalize", address);
  }

  /** Frees a communicator that was finalized and has settled. */
  destroy(communicator: CommunicatorHandle): void {
    const { address } = communicator;
    communicator.disown();
    this.check(this.#calls.ncclCommDestroy(address), "ncclCommDestroy");
  }

  /** Takes device memory that NCCL can register. @throws {UnsupportedError} Before NCCL 2.19. */
  allocate(byteLength: number): Address {
    if (this.#calls.ncclMemAlloc === null) throw this.#lacks("ncclMemAlloc");
    const result = this.#calls.ncclMemAlloc(this.#wordBytes, BigInt(byteLength));
    this.check(result, "ncclMemAlloc");
    return this.#word[0]!;
  }

  /** Frees memory of {@linkcode Nccl.allocate}. */
  free(address: Address): void {
    if (this.#calls.ncclMemFree === null) throw this.#lacks("ncclMemFree");
    this.check(this.#calls.ncclMemFree(address), "ncclMemFree");
  }

  /** Registers a buffer for copies without staging; gives the handle for `deregister`. */
  register(
    communicator: CommunicatorHandle,
    buffer: { readonly address: Address; readonly byteLength: number },
  ): Address {
    if (this.#calls.ncclCommRegister === null) throw this.#lacks("ncclCommRegister");
    const { address } = communicator;
    const size = BigInt(buffer.byteLength);
    const result = this.#calls.ncclCommRegister(address, buffer.address, size, this.#wordBytes);
    this.check(result, "ncclCommRegister", address);
    return this.#word[0]!;
  }

  /** Ends what {@linkcode Nccl.register} began. */
  deregister(communicator: CommunicatorHandle, handle: Address): void {
    if (this.#calls.ncclCommDeregister === null) throw this.#lacks("ncclCommDeregister");
    const { address } = communicator;
    this.check(this.#calls.ncclCommDeregister(address, handle), "ncclCommDeregister", address);
  }

  #lacks(call: string): UnsupportedError {
    return new UnsupportedError(`NCCL ${this.version().text} at ${this.path} has no ${call}`);
  }
}

function adviceFor(result: number, lastError: string): string {
  if (/duplicate gpu/i.test(lastError)) {
    return ". Two ranks of a group cannot share a GPU; give the trainer another device, or both " +
      "processes their own NCCL_HOSTID to test on one GPU";
  }
  if (result === NcclResult.remoteError) return ". A peer has left or failed";
  if (result === NcclResult.unhandledCudaError || result === NcclResult.systemError) {
    return ". Run again with NCCL_DEBUG=WARN in the environment for details";
  }
  return "";
}
