import { checkOptionNames, type OptionNames } from "../../src/internal/option_names.ts";
import { ValidationError } from "../../src/errors.ts";
import { type Logger, silentLogger } from "../../src/internal/logger.ts";
import type {
  DevicePart,
  FoundWord,
  GatheredPart,
  StagePart,
  StagePiece,
  TransportCall,
  WordRange,
} from "../../src/collective/group.ts";
import { type Keeper, openRankIn } from "../keeper/keeper.ts";
import type { LibraryOptions } from "../library.ts";
import { Communicator } from "./communicator.ts";
import { STAGING_SLOTS, wireTypeOf } from "./constants.ts";
import { hostBytes, totalLandedBytes, wirePiece } from "./pieces.ts";
import type { WirePiece } from "./protocol.ts";
import type { Rank } from "./rank.ts";

/** What a {@linkcode DeviceStage} is opened with. */
export interface DeviceStageOptions {
  /** Index of the device, among those that `CUDA_VISIBLE_DEVICES` leaves. Default 0. */
  readonly device?: number | undefined;
  /** Where the libraries are. */
  readonly libraries?: LibraryOptions | undefined;
  /** Whose memory the parts are to lie in. Default: this process's. */
  readonly keeper?: Keeper | undefined;
  /** Longest time of each step in milliseconds. Default 120 s. */
  readonly timeoutMs?: number | undefined;
  /** Cancels the opening. */
  readonly signal?: AbortSignal | undefined;
  /** Hears what happens. */
  readonly logger?: Logger | undefined;
}

const NAMES = {
  device: true,
  libraries: true,
  keeper: true,
  timeoutMs: true,
  signal: true,
  logger: true,
} as const satisfies OptionNames<DeviceStageOptions>;

/** Device memory of the keeper, mapped here. */
interface Slot {
  readonly byteLength: number;
  /** Its address in the keeper. */
  readonly there: bigint;
  /** Its address here. */
  readonly here: bigint;
}

const DEFAULT_TIMEOUT_MS = 120_000;
const ALIGNMENT_BYTES = 256;

/**
 * Brings weights together on the device once, for the broadcasts of any number of groups of the same
 * device. It belongs to none of them, so that it lives on when one is aborted.
 */
export class DeviceStage implements AsyncDisposable {
  /** FP8 in blocks is made on the device. */
  readonly makesFloat8: boolean = true;
  /** For how many calls what {@linkcode DeviceStage.stage} gives stays valid. */
  readonly stagingSlots: number = STAGING_SLOTS;
  readonly #thread: Communicator;
  /** Owns the memory, when that is the keeper's. */
  readonly #owner: Rank | undefined;
  readonly #timeoutMs: number;
  readonly #logger: Logger;
  readonly #slots: (Slot | undefined)[] = [];
  #turn = 0;

  private constructor(thread: Communicator, owner: Rank | undefined, options: DeviceStageOptions) {
    this.#thread = thread;
    this.#owner = owner;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#logger = options.logger ?? silentLogger;
  }

  /**
   * Opens the device.
   *
   * @throws {LibraryError} A library is nowhere.
   * @throws {PermissionError} Deno was not allowed to open a library, or to start the thread.
   * @throws {NativeError} There is no driver or no such device.
   * @throws {TimeoutError} The device did not open in time.
   */
  static async open(options: DeviceStageOptions = {}): Promise<DeviceStage> {
    checkOptionNames(options, NAMES, "DeviceStage.open()");
    const { keeper, ...rest } = options;
    const rank = { ...rest, collectives: false };
    const thread = await Communicator.open(rank);
    try {
      return new DeviceStage(thread, keeper && await openRankIn(keeper, rank), options);
    } catch (error) {
      await thread[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Why it can no longer be used, when it cannot. */
  get ended(): Error | undefined {
    return this.#thread.ended ?? this.#owner?.ended;
  }

  /** Pinned host memory, from which copies to the device are fastest; it is the stage's. */
  stagingBuffer(byteLength: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(byteLength);
    if (byteLength === 0) return bytes;
    const address = this.#thread.hold(bytes);
    this.#thread.request("pin", { address, byteLength }, this.#wait("pin staging memory"))
      .catch((error: Error) => {
        // Memory that cannot be pinned is sent all the same, only slower.
        this.#logger.warn(`Staging: ${error.message}`);
      });
    return bytes;
  }

  /**
   * Brings parts together on the device. What it gives is for `broadcastDevice` of groups whose
   * ranks live where the memory does, and is valid until the next call but two.
   *
   * @throws {ValidationError} A part is no whole number of its elements.
   * @throws {NativeError} The device has too little memory.
   */
  async stage(
    parts: readonly (StagePart | GatheredPart)[],
    call: TransportCall,
  ): Promise<DevicePart[]> {
    const pieces = parts.map(piecesOf);
    const wire = pieces.map((some, i) => this.#wirePieces(some, parts[i]!.dtype));
    const keep = pieces.flatMap(hostBytes);
    if (this.#owner !== undefined) {
      return await this.#stageThere(this.#owner, parts, { wire, keep, call });
    }
    const wait = { ...this.#wait("copy to the device", call), keep };
    const ranges = await this.#thread.request("stage", { parts: wire }, wait);
    return ranges.map((device, i) => ({ device, dtype: parts[i]!.dtype }));
  }

  async #stageThere(
    owner: Rank,
    parts: readonly (StagePart | GatheredPart)[],
    staged: { wire: readonly WirePiece[][]; keep: readonly Uint8Array[]; call: TransportCall },
  ): Promise<DevicePart[]> {
    const { wire, keep, call } = staged;
    const sizes = wire.map(totalLandedBytes);
    const slot = await this.#reserve(
      owner,
      sizes.reduce((sum, size) => sum + aligned(size), 0),
      call,
    );
    const placed: DevicePart[] = [];
    let offset = 0;
    for (const [i, some] of wire.entries()) {
      const wait = { ...this.#wait("copy to the device", call), keep };
      const target = slot.here + BigInt(offset);
      await this.#thread.request("gather", { target, pieces: some }, wait);
      const device = { address: slot.there + BigInt(offset), byteLength: sizes[i]! };
      placed.push({ device, dtype: parts[i]!.dtype });
      offset += aligned(sizes[i]!);
    }
    return placed;
  }

  async #reserve(owner: Rank, byteLength: number, call?: TransportCall): Promise<Slot> {
    const turn = this.#turn = (this.#turn + 1) % STAGING_SLOTS;
    const current = this.#slots[turn];
    if (current !== undefined && current.byteLength >= byteLength) return current;
    const wait = this.#wait("take device memory", call);
    if (current !== undefined) {
      this.#slots[turn] = undefined;
      await this.#thread.request("free", { address: current.here }, wait);
      await owner.request("free", { address: current.there }, wait);
    }
    const there = await owner.request("allocate", { byteLength }, wait);
    const { handle } = await owner.request("ipcHandle", { address: there }, wait);
    const here = await this.#thread.request("ipcOpen", { handle, byteLength }, wait);
    return this.#slots[turn] = { byteLength, there, here };
  }

  /** The first of the words that are looked for in memory of the device, where this process sees it. */
  async findWord(
    ranges: readonly WordRange[],
    call: TransportCall,
  ): Promise<FoundWord | undefined> {
    return await this.#thread.request("findWord", { ranges }, this.#wait("look at values", call));
  }

  /** Takes the memory for parts of up to `byteLength` bytes, so that no `stage` has to. */
  async reserve(byteLength: number): Promise<void> {
    if (this.#owner === undefined) return;
    for (let i = 0; i < STAGING_SLOTS; i++) await this.#reserve(this.#owner, byteLength);
  }

  /** Gives the memory back; no broadcast may be reading it. */
  async close(): Promise<void> {
    if (this.#thread.ended === undefined) await this.#thread.close(this.#wait("close device"));
    await this.#owner?.close(this.#wait("close device"));
  }

  /** Gives the memory back; what fails is reported to the logger. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch((error: Error) => this.#logger.warn(`Staging: ${error.message}`));
  }

  #wirePieces(pieces: readonly StagePiece[], dtype: DevicePart["dtype"]): WirePiece[] {
    const wire = pieces
      .map((piece) => wirePiece(piece, (bytes) => this.#thread.addressOf(bytes)))
      .filter(({ byteLength }) => byteLength > 0);
    wireTypeOf(dtype, totalLandedBytes(wire));
    return wire;
  }

  #wait(step: string, call?: TransportCall) {
    return { phase: `staging: ${step}`, timeoutMs: this.#timeoutMs, signal: call?.signal };
  }
}

/** The pieces of a part; one that is cast must be bfloat16 of whole float32 elements. */
export function piecesOf(part: StagePart | GatheredPart): readonly StagePiece[] {
  if ("pieces" in part) return part.pieces;
  if (part.castFrom !== undefined) checkCast(part.dtype, part.bytes.byteLength);
  return [part];
}

function checkCast(dtype: DevicePart["dtype"], byteLength: number): void {
  if (dtype !== "bfloat16") {
    throw new ValidationError(`castFrom "float32" gives bfloat16, not ${dtype}`);
  }
  if (byteLength % 4 !== 0) {
    throw new ValidationError(`${byteLength} bytes are no whole number of float32 elements`);
  }
}

function aligned(byteLength: number): number {
  return Math.ceil((byteLength + 1) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}
