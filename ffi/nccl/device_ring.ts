import { CopyKind } from "../cudart/constants.ts";
import type { DeviceBuffer, Event, Stream } from "../cudart/handles.ts";
import type { Cudart } from "../cudart/mod.ts";
import type { Kernels } from "../cuda/kernels.ts";
import type { Address } from "../memory.ts";
import type { FlightRecorder, WirePart } from "./protocol.ts";

/** NCCL reads fastest from addresses that CUDA's allocator would give. */
const ALIGNMENT_BYTES = 256;
const SMALLEST_SLOT_BYTES = 64 * 2 ** 20;

/** Parts that lie on the device, ready for their collectives. */
export interface LoadedParts {
  /** The parts and where each lies now. */
  readonly parts: readonly { readonly part: WirePart; readonly address: Address }[];
  /** Passed by the device once the copies are done. */
  readonly ready: Event;
  /** Tells the ring that the stream's work so far is the last that reads the parts. */
  release(stream: Stream): void;
}

interface Slot {
  buffer: DeviceBuffer | undefined;
  scratch: DeviceBuffer | undefined;
  readonly loaded: Event;
  readonly released: Event;
  inUse: boolean;
}

/**
 * Two slots of device memory in turn: while the collectives read one, the next parts are copied to
 * the other on a stream of its own. All waiting is done by the device.
 */
export class DeviceRing implements Disposable {
  readonly #cudart: Cudart;
  readonly #copies: Stream;
  readonly #slots: readonly [Slot, Slot];
  readonly #recorder: FlightRecorder;
  /** Outgrown buffers. Freeing waits for the device, so it is left until the device is done. */
  readonly #outgrown: DeviceBuffer[] = [];
  #turn = 0;

  /** Takes no device memory until it is needed. */
  constructor(cudart: Cudart, recorder: FlightRecorder) {
    this.#cudart = cudart;
    this.#recorder = recorder;
    this.#copies = cudart.createStream();
    const slot = (): Slot => ({
      buffer: undefined,
      scratch: undefined,
      loaded: cudart.createEvent(),
      released: cudart.createEvent(),
      inUse: false,
    });
    this.#slots = [slot(), slot()];
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
  load(batch: readonly WirePart[], kernels: () => Kernels): LoadedParts {
    const slot = this.#slots[this.#turn]!;
    this.#turn = 1 - this.#turn;
    const needed = batch.reduce((sum, part) => sum + aligned(slotBytes(part)), 1);
    const scratch = batch.reduce((most, part) => Math.max(most, scratchBytes(part)), 0);
    if (slot.inUse) this.#cudart.wait(this.#copies, slot.released);
    slot.buffer = this.#grown(slot.buffer, needed);
    slot.scratch = this.#grown(slot.scratch, scratch);
    let offset = 0;
    const parts = batch.map((part) => {
      if (part.place === "device" && !part.cast) return { part, address: part.address };
      const address = slot.buffer!.address + BigInt(offset);
      offset += aligned(slotBytes(part));
      this.#copy(part, address, slot.scratch, kernels);
      return { part, address };
    });
    this.#cudart.record(slot.loaded, this.#copies);
    slot.inUse = false;
    const release = (stream: Stream) => {
      this.#cudart.record(slot.released, stream);
      slot.inUse = true;
    };
    return { parts, ready: slot.loaded, release };
  }

  /** Frees what was outgrown; to be called when the device has no work of ours. */
  collect(): void {
    for (const buffer of this.#outgrown.splice(0)) {
      this.#recorder.during("cudaFree", () => buffer[Symbol.dispose]());
    }
  }

  /** Gives the memory back. Waits for the device's work. */
  [Symbol.dispose](): void {
    this.collect();
    for (const { buffer, scratch, loaded, released } of this.#slots) {
      for (const handle of [buffer, scratch, loaded, released]) handle?.[Symbol.dispose]();
    }
    this.#copies[Symbol.dispose]();
  }

  #copy(
    part: WirePart,
    target: Address,
    scratch: DeviceBuffer | undefined,
    kernels: () => Kernels,
  ): void {
    const stream = this.#copies;
    const { place, address, byteLength } = part;
    const landing = part.cast && place === "host" ? scratch!.address : target;
    if (place === "host") {
      const options = { byteLength, kind: CopyKind.hostToDevice, stream };
      this.#recorder.during(
        "cudaMemcpyAsync",
        () => this.#cudart.copyAsync(landing, address, options),
      );
    }
    if (!part.cast) return;
    const source = place === "host" ? landing : address;
    kernels().cast(target, source, { count: part.count, stream });
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

/** Bytes that the part takes in a slot: a cast halves them. */
function slotBytes(part: WirePart): number {
  if (part.cast) return part.byteLength / 2;
  return part.place === "device" ? 0 : part.byteLength;
}

function scratchBytes(part: WirePart): number {
  return part.cast && part.place === "host" ? part.byteLength : 0;
}
