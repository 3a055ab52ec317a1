import type { DType } from "../../src/checkpoint/dtype.ts";
import type {
  BroadcastPart,
  CollectiveGroup,
  DevicePart,
  GatheredPart,
  StagePart,
  StagePiece,
  TransportCall,
} from "../../src/collective/group.ts";
import { StateError, UnsupportedError } from "../../src/errors.ts";
import { type Logger, silentLogger } from "../../src/internal/logger.ts";
import { type Keeper, openRankIn } from "../keeper/keeper.ts";
import type { IpcMemory } from "../ipc/exporter.ts";
import { nullAddress } from "../memory.ts";
import { Communicator } from "./communicator.ts";
import { STAGING_SLOTS, wireTypeOf } from "./constants.ts";
import { piecesOf } from "./device_stage.ts";
import { checkGroupOptions, type NcclGroupOptions } from "./group_options.ts";
import { describeSize, devicePart, hostBytes, totalLandedBytes, wirePiece } from "./pieces.ts";
import type { RankInfo, WirePart, WirePiece } from "./protocol.ts";
import type { Rank } from "./rank.ts";
import { describePeers, type RendezvousStore, uniqueIdCounter, uniqueIdKey } from "./store.ts";

const DEFAULT_TIMEOUT_MS = 120_000;

/**
 * Rank 0 of an NCCL group with PyTorch processes, such as SGLang's schedulers after
 * `/init_weights_update_group`.
 *
 * NCCL's communicator forms at the group's first collective, because the servers make it then:
 * {@linkcode NcclGroup.connect} only checks that we are ready, and the first
 * {@linkcode NcclGroup.broadcast} publishes the id that the servers wait for in the store and joins
 * them. Send it while the servers' update requests are under way.
 *
 * Any failure, deadline or cancellation of a collective aborts the group: it cannot be used again,
 * and the servers' side has to be destroyed before a new one is opened.
 *
 * Permissions: `--allow-ffi=<NCCL>,<CUDA runtime>`; `--allow-read` for this library's own files.
 *
 * @example
 * ```ts ignore
 * import { NcclGroup } from "@sglang-rl/sglang-rl/nccl";
 * import { TCPStoreServer } from "@sglang-rl/sglang-rl/rendezvous";
 *
 * await using store = TCPStoreServer.listen();
 * await using group = await NcclGroup.open({
 *   store,
 *   worldSize: 2,
 *   groupName: "weight_update_group",
 *   libraries: { python: "/opt/sglang/bin/python" },
 * });
 * const signal = AbortSignal.timeout(60_000);
 * await group.broadcast([{ bytes: new Uint8Array(1024), dtype: "uint8" }], { signal });
 * ```
 */
export class NcclGroup implements CollectiveGroup {
  /** Backend name as SGLang takes it. */
  readonly backend = "nccl";
  /** Broadcasts may be asked for while others are under way; they are done in that order. */
  readonly queues: boolean = true;
  /** FP8 in blocks is made on the device. */
  readonly makesFloat8: boolean = true;
  /** For how many calls what {@linkcode NcclGroup.stage} gives stays valid. */
  readonly stagingSlots: number = STAGING_SLOTS;
  /** Address that the servers connect to. */
  readonly masterAddress: string;
  /** Port that the servers connect to. */
  readonly masterPort: number;
  /** Name of the group. */
  readonly groupName: string;
  /** 1 + the servers' ranks. */
  readonly worldSize: number;
  readonly #communicator: Rank;
  readonly #store: RendezvousStore;
  readonly #timeoutMs: number;
  readonly #logger: Logger;
  readonly #idKey: string;
  readonly #closesToo: AsyncDisposable | undefined;
  #publishing: Promise<Uint8Array<ArrayBuffer>> | undefined;
  #joining: Promise<void> | undefined;
  #aborted: Error | undefined;
  #closing: Promise<void> | undefined;

  private constructor(communicator: Rank, options: NcclGroupOptions) {
    const { store, worldSize, groupName } = options;
    this.#communicator = communicator;
    this.#store = store;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#logger = options.logger ?? silentLogger;
    this.#idKey = uniqueIdKey(groupName, 0);
    this.#closesToo = options.closesToo;
    this.masterAddress = options.masterAddress ?? store.hostname;
    this.masterPort = store.port;
    this.groupName = groupName;
    this.worldSize = worldSize;
    store.onMissing((key) => {
      const counter = uniqueIdCounter(key, groupName);
      if (counter === 0 && this.#publishing !== undefined) {
        this.#logger.error(
          `NCCL group "${groupName}": the communicator's id was read by as many as there are ` +
            `ranks, and is asked for once more: somebody else took a rank's`,
        );
      } else if (counter !== undefined && counter > 0) {
        this.#logger.error(
          `NCCL group "${groupName}": a peer asks for ${key}, a second communicator`,
        );
      }
      return undefined;
    });
  }

  /**
   * Opens NCCL and the device on a thread of their own. Contacts nobody.
   *
   * @throws {ValidationError} An option is wrong.
   * @throws {LibraryError} A library is nowhere.
   * @throws {PermissionError} Deno was not allowed to open a library, or to start the thread.
   * @throws {NativeError} There is no driver or no such device.
   * @throws {UnsupportedError} NCCL's version is not the servers'.
   * @throws {TimeoutError} The device did not open in time.
   */
  static async open(options: NcclGroupOptions): Promise<NcclGroup> {
    checkGroupOptions(options);
    const communicator = await Communicator.open(options);
    return await NcclGroup.#over(communicator, options);
  }

  /**
   * Opens NCCL and the device in the keeper, which lets the servers go when this process is killed.
   * Such a group sends device memory that a `DeviceStage` of the same keeper gave, and no other.
   */
  static async openIn(keeper: Keeper, options: NcclGroupOptions): Promise<NcclGroup> {
    checkGroupOptions(options);
    return await NcclGroup.#over(await openRankIn(keeper, options), options);
  }

  static async #over(communicator: Rank, options: NcclGroupOptions): Promise<NcclGroup> {
    const { ncclVersion, ncclPath } = communicator.info;
    const expected = options.expectedNcclVersion;
    if (expected !== undefined && expected !== ncclVersion) {
      await communicator[Symbol.asyncDispose]();
      throw new UnsupportedError(
        `NCCL at ${ncclPath} has version ${ncclVersion}, the servers have ${expected}; all ranks ` +
          `need the same: open the copy in the servers' Python (libraries.python)`,
      );
    }
    return new NcclGroup(communicator, options);
  }

  /** Versions and paths of what was opened. */
  get info(): RankInfo {
    return this.#communicator.info;
  }

  /** Whether the communicator has formed. */
  get isConnected(): boolean {
    return this.#joining !== undefined && this.#aborted === undefined;
  }

  /** Whether the servers are let go when this process is killed within a collective. */
  get outlivesUs(): boolean {
    return this.#communicator.outlivesUs;
  }

  /** Why no further collective can succeed, once the group has failed. */
  get failure(): Error | undefined {
    return this.#aborted;
  }

  /** How many ranks have come to the store, and their last request. */
  get heard(): string {
    return describePeers(this.#store, this.worldSize);
  }

  /** Checks that the group can be used. The servers are joined by the first broadcast. */
  connect(call: TransportCall): Promise<void> {
    this.#requireUsable();
    call.signal.throwIfAborted();
    return Promise.resolve();
  }

  /**
   * Pinned host memory, from which copies to the device are fastest. It is the group's: keep no
   * view of it past {@linkcode NcclGroup.close}. The memory is pinned in the background, in order
   * before any later broadcast.
   */
  stagingBuffer(byteLength: number): Uint8Array<ArrayBuffer> {
    this.#requireUsable();
    const bytes = new Uint8Array(byteLength);
    if (byteLength === 0) return bytes;
    const address = this.#communicator.hold(bytes);
    const wait = { phase: "pin staging memory", timeoutMs: this.#timeoutMs };
    this.#communicator.request("pin", { address, byteLength }, wait).catch((error: Error) => {
      // Memory that cannot be pinned is sent all the same, only slower.
      this.#logger.warn(`NCCL group "${this.groupName}": ${error.message}`);
    });
    return bytes;
  }

  /**
   * Sends each part as one broadcast, in order; resolves when the device has passed them all. The
   * bytes must not change meanwhile.
   *
   * @throws {TimeoutError} A peer never arrived, or stopped; says which phase and how many peers.
   * @throws {NativeError} NCCL failed, for example because a peer died.
   * @throws {AbortedError} The signal fired.
   */
  async broadcast(parts: readonly BroadcastPart[], call: TransportCall): Promise<void> {
    const wire = parts.map((part) => this.#hostPart(part));
    await this.#send(wire, { signal: call.signal, keep: parts.map(({ bytes }) => bytes) });
  }

  /** Like {@linkcode NcclGroup.broadcast}, from device memory. */
  async broadcastDevice(parts: readonly DevicePart[], call: TransportCall): Promise<void> {
    await this.#send(parts.map(devicePart), call);
  }

  /**
   * Brings parts together on the device ahead of their broadcast, so that this overlaps the
   * broadcast of those before; casts float32 to bfloat16 there where a piece asks for it (which
   * needs the driver, `libcuda.so.1`). The result is valid until the next call but two. A part that
   * lies in one piece on the device already is not copied.
   *
   * @throws {ValidationError} A part is no whole number of its elements.
   * @throws {NativeError} The device has too little memory.
   */
  async stage(
    parts: readonly (StagePart | GatheredPart)[],
    call: TransportCall,
  ): Promise<DevicePart[]> {
    this.#requireUsable();
    const pieces = parts.map(piecesOf);
    const wire = pieces.map((some, i) => this.#wirePieces(some, parts[i]!.dtype));
    const wait = {
      ...this.#wait(`copy of ${describeSize(wire.flat())} to the device`, call),
      keep: pieces.flatMap(hostBytes),
    };
    const ranges = await this.#communicator.request("stage", { parts: wire }, wait);
    return ranges.map((device, i) => ({ device, dtype: parts[i]!.dtype }));
  }

  /** Takes device memory, to be filled with `copyToDevice` and given back with `freeDevice`. */
  async allocateDevice(byteLength: number): Promise<bigint> {
    this.#requireUsable();
    const wait = this.#wait("allocate device memory");
    return await this.#communicator.request("allocate", { byteLength }, wait);
  }

  /** Gives memory of `allocateDevice` back. */
  async freeDevice(address: bigint): Promise<void> {
    await this.#communicator.request("free", { address }, this.#wait("free device memory"));
  }

  /** Copies bytes of this process to device memory. */
  async copyToDevice(address: bigint, bytes: Uint8Array): Promise<void> {
    if (bytes.byteLength === 0) return;
    const { byteLength } = bytes;
    const source = this.#communicator.addressOf(bytes);
    const wait = { ...this.#wait("copy to the device"), keep: [bytes] };
    await this.#communicator.request("copy", { target: address, source, byteLength }, wait);
  }

  /** Copies device memory to bytes of this process. */
  async copyFromDevice(bytes: Uint8Array, address: bigint): Promise<void> {
    if (bytes.byteLength === 0) return;
    const { byteLength } = bytes;
    const target = this.#communicator.addressOf(bytes);
    const wait = { ...this.#wait("copy from the device"), keep: [bytes] };
    await this.#communicator.request("copy", { target, source: address, byteLength }, wait);
  }

  /** The 64-bit checksum of device memory; equals `checksumOf` of the same bytes. */
  async checksum(address: bigint, byteLength: number): Promise<bigint> {
    const wait = this.#wait("checksum");
    return await this.#communicator.request("checksum", { address, byteLength }, wait);
  }

  /** Handle with which another process on this host maps memory of `allocateDevice`. */
  async ipcMemory(address: bigint): Promise<IpcMemory> {
    return await this.#communicator.request("ipcHandle", { address }, this.#wait("IPC handle"));
  }

  /** Free memory of the device, in bytes. */
  async freeDeviceBytes(): Promise<number> {
    return await this.#communicator.request("freeBytes", {}, this.#wait("memory info"));
  }

  /** Drops the group at once, so that no collective of ours can block. Never rejects. */
  async abort(reason: Error): Promise<void> {
    if (this.#aborted !== undefined || this.#closing !== undefined) return;
    this.#aborted = reason;
    this.#store.delete(this.#idKey);
    this.#logger.warn(`NCCL group "${this.groupName}" aborted: ${reason.message}`);
    try {
      await this.#communicator.abort(reason);
    } finally {
      await this.#closesToo?.[Symbol.asyncDispose]();
    }
  }

  /** Ends the group after the servers have left it. A group that was aborted is closed already. */
  async close(): Promise<void> {
    if (this.#aborted !== undefined) return;
    this.#closing ??= this.#close();
    await this.#closing;
  }

  /** Closes the group. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.#store.delete(this.#idKey);
    try {
      await this.#communicator.close(this.#wait("close group"));
    } finally {
      await this.#closesToo?.[Symbol.asyncDispose]();
    }
  }

  /** Makes the id that the servers look for when the first collective is announced. */
  #publish(call: TransportCall): Promise<Uint8Array<ArrayBuffer>> {
    return this.#publishing ??= (async () => {
      const wait = this.#wait("make the communicator's id", call);
      const uniqueId = await this.#communicator.request("uniqueId", {}, wait);
      // Once for each rank: whoever else reads it takes one that is then missed.
      this.#store.set(this.#idKey, uniqueId, { reads: this.worldSize - 1 });
      return uniqueId;
    })();
  }

  async #join(uniqueId: Uint8Array<ArrayBuffer>, call: TransportCall): Promise<void> {
    const { worldSize } = this;
    const wait = this.#wait("join peers", call);
    await this.#communicator.request("init", { uniqueId, rank: 0, worldSize }, wait);
    this.#logger.info(`NCCL group "${this.groupName}" of ${worldSize} ranks has formed`);
  }

  #wait(step: string, call?: TransportCall) {
    return {
      phase: `NCCL group "${this.groupName}": ${step}`,
      timeoutMs: this.#timeoutMs,
      signal: call?.signal,
      peer: `${this.worldSize - 1} other rank${this.worldSize === 2 ? "" : "s"}`,
      lastHeard: () => describePeers(this.#store, this.worldSize),
    };
  }

  #hostPart({ bytes, dtype }: BroadcastPart): WirePart {
    const { byteLength } = bytes;
    const address = byteLength === 0 ? nullAddress : this.#communicator.addressOf(bytes);
    return { place: "host", address, byteLength, ...wireTypeOf(dtype, byteLength) };
  }

  #wirePieces(pieces: readonly StagePiece[], dtype: DType): WirePiece[] {
    const wire = pieces
      .map((piece) => wirePiece(piece, (bytes) => this.#communicator.addressOf(bytes)))
      .filter(({ byteLength }) => byteLength > 0);
    wireTypeOf(dtype, totalLandedBytes(wire));
    return wire;
  }

  async #send(
    parts: readonly WirePart[],
    call: TransportCall & { readonly keep?: readonly Uint8Array[] },
  ): Promise<void> {
    this.#requireUsable();
    try {
      const uniqueId = await this.#publish(call);
      // Asked for at once with the joining: a server that has joined goes straight on to receive.
      const joined = this.#joining ??= this.#join(uniqueId, call);
      const { keep, queued } = call;
      const wait = { ...this.#wait(`broadcast of ${describeSize(parts)}`, call), keep, queued };
      const sent = this.#communicator.request("broadcast", { parts, root: 0 }, wait);
      await Promise.all([joined, sent]);
    } catch (error) {
      await this.abort(error as Error);
      throw error;
    }
  }

  #requireUsable(): void {
    if (this.#aborted !== undefined) {
      throw new StateError(
        `NCCL group "${this.groupName}" was aborted (${this.#aborted.message}); destroy it on the ` +
          `servers and open a new one`,
        { cause: this.#aborted },
      );
    }
    if (this.#closing !== undefined) {
      throw new StateError(`NCCL group "${this.groupName}" is closed`);
    }
  }
}
