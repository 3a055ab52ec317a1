import { ValidationError } from "../../src/errors.ts";
import { CopyKind } from "../cudart/constants.ts";
import type { DeviceBuffer, Event, Stream } from "../cudart/handles.ts";
import type { Cudart } from "../cudart/mod.ts";
import type { Kernels } from "../cuda/kernels.ts";
import type { Address } from "../memory.ts";
import { FLOAT8_BLOCK, landedBytes, totalLandedBytes } from "./pieces.ts";
import { PinnedRelay, RELAY_BYTES } from "./pinned_relay.ts";
import type { DeviceRange, FlightRecorder, PlacedBytes, WirePart, WirePiece } from "./protocol.ts";

/** NCCL reads fastest from addresses that CUDA's allocator would give. */
const ALIGNMENT_BYTES = 256;
const SMALLEST_SLOT_BYTES = 64 * 2 ** 20;
/** Between two copies the thread's other messages come in. */
const COPY_BYTES = RELAY_BYTES;
/** Smaller copies of memory that is not pinned are left to the CUDA runtime. */
const LEAST_RELAYED_BYTES = 2 ** 20;

/** Parts that lie on the device, ready for their collectives. */
export interface LoadedParts {
  /** The parts and where each lies now. */
  readonly parts: readonly { readonly part: WirePart; readonly address: Address }[];
  /** Passed by the device once the copies are done. */
  readonly ready: Event;
  /** Tells the ring that the stream's work so far is the last that reads the parts. */
  release(stream: Stream): void;
}

/** What gathering needs besides the ring. */
export interface GatherTools {
  /** The kernels, compiled when the first cast comes. */
  readonly kernels: () => Kernels;
  /** Whether memory of this process is pinned: the device reads such by itself. */
  readonly isPinned: (bytes: PlacedBytes) => boolean;
  /** Waits until the device has passed an event; throws when the rank has ended meanwhile. */
  readonly until: (event: Event) => Promise<void>;
  /** Lets the thread's other work come in between; throws when the rank has ended meanwhile. */
  readonly breathe: () => Promise<void>;
}

interface Slot {
  buffer: DeviceBuffer | undefined;
  scratch: DeviceBuffer | undefined;
  readonly loaded: Event;
  readonly released: Event;
  inUse: boolean;
}

/**
 * Slots of device memory in turn: while the collectives read one, the next parts are copied to
 * another on a stream of its own. All waiting is done by the device.
 */
export class DeviceRing implements Disposable {
  readonly #cudart: Cudart;
  readonly #copies: Stream;
  readonly #slots: readonly Slot[];
  readonly #relay: PinnedRelay;
  readonly #recorder: FlightRecorder;
  /** Outgrown buffers. Freeing waits for the device, so it is left until the device is done. */
  readonly #outgrown: DeviceBuffer[] = [];
  #turn = 0;

  /** Takes no device memory until it is needed. */
  constructor(cudart: Cudart, recorder: FlightRecorder, slots: number = 2) {
    this.#cudart = cudart;
    this.#recorder = recorder;
    this.#copies = cudart.createStream();
    this.#relay = new PinnedRelay(cudart, this.#copies, recorder);
    const slot = (): Slot => ({
      buffer: undefined,
      scratch: undefined,
      loaded: cudart.createEvent(),
      released: cudart.createEvent(),
      inUse: false,
    });
    this.#slots = Array.from({ length: slots }, slot);
  }

  /** Splits parts so that each batch fits a slot; a part larger than a slot goes alone. */
  static batches(parts: readonly WirePart[]): WirePart[][] {
    const batches: WirePart[][] = [];
    let used = Infinity;
    for (const part of parts) {
      const size = aligned(slotBytes(part));
      if (used + size > SMALLEST_SLOT_BYTES) {
        batches.push([]);
        used = 0;
      }
      batches.at(-1)!.push(part);
      used += size;
    }
    return batches;
  }

  /** Begins to copy a batch to the next slot, once the slot's former readers are done. */
  load(batch: readonly WirePart[]): LoadedParts {
    const slot = this.#nextSlot();
    const needed = batch.reduce((sum, part) => sum + aligned(slotBytes(part)), 1);
    slot.buffer = this.#grown(slot.buffer, needed);
    let offset = 0;
    const parts = batch.map((part) => {
      if (part.place === "device") return { part, address: part.address };
      const address = slot.buffer!.address + BigInt(offset);
      offset += aligned(slotBytes(part));
      this.#copyBytes(part, address);
      return { part, address };
    });
    this.#cudart.record(slot.loaded, this.#copies);
    const release = (stream: Stream) => {
      this.#cudart.record(slot.released, stream);
      slot.inUse = true;
    };
    return { parts, ready: slot.loaded, release };
  }

  /**
   * Brings the pieces of each part together in the next slot; a part that lies in one piece on the
   * device stays there. `ready` is passed by the device once the copies are done.
   */
  async gather(
    parts: readonly (readonly WirePiece[])[],
    tools: GatherTools,
  ): Promise<{ readonly ranges: DeviceRange[]; readonly ready: Event }> {
    const slot = this.#nextSlot();
    const moved = parts.filter((pieces) => rangeOf(pieces) === undefined);
    const needed = moved.reduce((sum, part) => sum + aligned(totalLandedBytes(part) + 1), 0);
    slot.buffer = this.#grown(slot.buffer, needed);
    const ranges: DeviceRange[] = [];
    let offset = 0;
    for (const pieces of parts) {
      const there = rangeOf(pieces);
      if (there !== undefined) {
        ranges.push(there);
        continue;
      }
      const address = slot.buffer!.address + BigInt(offset);
      const byteLength = totalLandedBytes(pieces);
      await this.#gatherAt(address, pieces, slot, tools);
      ranges.push({ address, byteLength });
      offset += aligned(byteLength + 1);
    }
    this.#cudart.record(slot.loaded, this.#copies);
    return { ranges, ready: slot.loaded };
  }

  /** Brings pieces together at an address of the device; gives the event of their arrival. */
  async gatherAt(
    target: Address,
    pieces: readonly WirePiece[],
    tools: GatherTools,
  ): Promise<Event> {
    const slot = this.#nextSlot();
    await this.#gatherAt(target, pieces, slot, tools);
    this.#cudart.record(slot.loaded, this.#copies);
    return slot.loaded;
  }

  /** Frees what was outgrown; to be called when the device has no work of ours. */
  collect(): void {
    for (const buffer of this.#outgrown.splice(0)) {
      this.#recorder.during("cudaFree", () => buffer[Symbol.dispose]());
    }
  }

  /** Gives the memory back; nothing may be gathered any more. Waits for the device's work. */
  [Symbol.dispose](): void {
    this.#recorder.during(
      "cudaStreamSynchronize",
      () => this.#cudart.synchronize(this.#copies),
    );
    this.collect();
    this.#relay[Symbol.dispose]();
    for (const { buffer, scratch, loaded, released } of this.#slots) {
      for (const handle of [buffer, scratch, loaded, released]) handle?.[Symbol.dispose]();
    }
    this.#copies[Symbol.dispose]();
  }

  /** The slot whose turn it is; what was read from it last is waited for by the device. */
  #nextSlot(): Slot {
    const slot = this.#slots[this.#turn]!;
    this.#turn = (this.#turn + 1) % this.#slots.length;
    if (slot.inUse) this.#cudart.wait(this.#copies, slot.released);
    slot.inUse = false;
    return slot;
  }

  async #gatherAt(
    target: Address,
    pieces: readonly WirePiece[],
    slot: Slot,
    tools: GatherTools,
  ): Promise<void> {
    const needed = pieces.reduce((most, piece) => Math.max(most, scratchBytes(piece)), 0);
    slot.scratch = this.#grown(slot.scratch, needed);
    const hasFloat8 = pieces.some(({ float8 }) => float8 !== undefined);
    if (hasFloat8) tools.kernels().beginFloat8(this.#copies);
    let at = target;
    for (const [id, piece] of pieces.entries()) {
      const chunkBytes = chunkBytesOf(piece);
      for (let done = 0; done < piece.byteLength; done += chunkBytes) {
        const byteLength = Math.min(chunkBytes, piece.byteLength - done);
        const chunk = chunkOf(piece, done, byteLength);
        await this.#land(chunk, { target: at, id }, slot.scratch, tools);
        at += BigInt(landedBytes(chunk));
        await tools.breathe();
      }
    }
    if (!hasFloat8) return;
    const bad = tools.kernels().endFloat8(this.#copies);
    if (bad === undefined) return;
    throw new ValidationError(
      `Weight "${pieces[bad]!.float8!.name}" holds NaN or an infinity: FP8 has no scale for it`,
    );
  }

  /** A cast reads memory of the device, so what lies in this process takes the way by `scratch`. */
  async #land(
    piece: WirePiece,
    { target, id }: { readonly target: Address; readonly id: number },
    scratch: DeviceBuffer | undefined,
    tools: GatherTools,
  ): Promise<void> {
    const { cast, float8 } = piece;
    if (!cast && float8 === undefined) return await this.#bring(piece, target, tools);
    const source = piece.place === "device" ? piece.address : scratch!.address;
    if (piece.place === "host") await this.#bring(piece, source, tools);
    const stream = this.#copies;
    if (float8 !== undefined) tools.kernels().float8(target, source, { ...float8, id, stream });
    else tools.kernels().cast(target, source, { count: piece.byteLength / 4, stream });
  }

  async #bring(bytes: PlacedBytes, target: Address, tools: GatherTools): Promise<void> {
    const { place, address: source, byteLength } = bytes;
    if (place === "device" || byteLength < LEAST_RELAYED_BYTES || tools.isPinned(bytes)) {
      this.#copyBytes(bytes, target);
      return;
    }
    await this.#relay.copy({ target, source, byteLength, until: tools.until });
  }

  #copyBytes({ place, address, byteLength }: PlacedBytes, target: Address): void {
    const kind = place === "host" ? CopyKind.hostToDevice : CopyKind.deviceToDevice;
    const options = { byteLength, kind, stream: this.#copies };
    this.#recorder.during(
      "cudaMemcpyAsync",
      () => this.#cudart.copyAsync(target, address, options),
    );
  }

  #grown(buffer: DeviceBuffer | undefined, byteLength: number): DeviceBuffer | undefined {
    if (byteLength === 0 || (buffer !== undefined && buffer.byteLength >= byteLength)) {
      return buffer;
    }
    if (buffer !== undefined) this.#outgrown.push(buffer);
    const size = Math.max(byteLength, SMALLEST_SLOT_BYTES);
    return this.#recorder.during("cudaMalloc", () => this.#cudart.allocate(size));
  }
}

function aligned(byteLength: number): number {
  return Math.ceil(byteLength / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/** Where a part lies that needs no copy: in one piece on the device. */
function rangeOf(pieces: readonly WirePiece[]): DeviceRange | undefined {
  const [only] = pieces;
  if (pieces.length !== 1 || only!.place !== "device") return undefined;
  if (only!.cast || only!.float8 !== undefined) return undefined;
  return { address: only!.address, byteLength: only!.byteLength };
}

/** Bytes that the part takes in a slot. */
function slotBytes(part: WirePart): number {
  return part.place === "device" ? 0 : part.byteLength;
}

function scratchBytes(piece: WirePiece): number {
  const isMade = piece.cast || piece.float8 !== undefined;
  return isMade && piece.place === "host" ? Math.min(chunkBytesOf(piece), piece.byteLength) : 0;
}

/** Bytes of a piece between two turns of the thread: of a matrix whole blocks of rows. */
function chunkBytesOf({ float8 }: WirePiece): number {
  if (float8 === undefined) return COPY_BYTES;
  const blockBytes = FLOAT8_BLOCK * float8.columns * (float8.from === "float32" ? 4 : 2);
  return Math.max(1, Math.floor(COPY_BYTES / blockBytes)) * blockBytes;
}

function chunkOf(piece: WirePiece, from: number, byteLength: number): WirePiece {
  const { float8, address } = piece;
  const rows = float8 && Math.round(float8.rows * byteLength / piece.byteLength);
  return {
    ...piece,
    address: address + BigInt(from),
    byteLength,
    float8: float8 && { ...float8, rows: rows! },
  };
}
