import { NativeError } from "../../src/errors.ts";
import { Semaphore } from "../../src/internal/semaphore.ts";
import { CopyKind } from "../cudart/constants.ts";
import type { Event, PinnedBuffer, Stream } from "../cudart/handles.ts";
import type { Cudart } from "../cudart/mod.ts";
import type { Address } from "../memory.ts";
import type { FlightRecorder } from "./protocol.ts";

/** Most bytes of one copy. */
export const RELAY_BYTES = 32 * 2 ** 20;
/** Threads of the pool that fill a slot together, and the least that is worth one. */
const LANES = 8;
const LEAST_LANE_BYTES = 2 ** 20;
const SLOTS = 2;

interface Slot {
  readonly buffer: PinnedBuffer;
  /** Passed by the device once it has read the slot. */
  readonly isRead: Event;
}

/** One copy to the device. */
export interface RelayCopy {
  /** Where the bytes go on the device. */
  readonly target: Address;
  /** Where they lie in this process. */
  readonly source: Address;
  /** At most {@linkcode RELAY_BYTES}. */
  readonly byteLength: number;
  /** Waits until the device has passed an event. */
  readonly until: (event: Event) => Promise<void>;
}

/**
 * Pinned memory between memory of this process and the device: several threads fill one slot while
 * the device reads the other. The CUDA runtime does the same by itself with one thread, which is
 * slower than the device's link by far.
 */
export class PinnedRelay implements Disposable {
  readonly #cudart: Cudart;
  readonly #stream: Stream;
  readonly #recorder: FlightRecorder;
  readonly #permits = new Semaphore(SLOTS);
  /** Slots that no thread fills; the device may still read them. */
  readonly #idle: Slot[] = [];
  /** Slots that were made, or could not be. */
  #made = 0;

  /** Copies on `stream`; takes no memory until it is needed. */
  constructor(cudart: Cudart, stream: Stream, recorder: FlightRecorder) {
    this.#cudart = cudart;
    this.#stream = stream;
    this.#recorder = recorder;
  }

  /** Copies; resolves when the source has been read and the device's part is on the stream. */
  async copy({ target, source, byteLength, until }: RelayCopy): Promise<void> {
    using _permit = await this.#permits.acquire();
    const slot = this.#made < SLOTS ? this.#makeSlot() : this.#idle.shift();
    // Memory that cannot be pinned does not stop the copy, the CUDA runtime has slots of its own.
    if (slot === undefined) return this.#copyToDevice(target, source, byteLength);
    try {
      await until(slot.isRead);
      await this.#fill(slot.buffer.address, source, byteLength);
      this.#copyToDevice(target, slot.buffer.address, byteLength);
      this.#cudart.record(slot.isRead, this.#stream);
    } finally {
      this.#idle.push(slot);
    }
  }

  /** Gives the memory back; no copy may be under way, and the device must be done. */
  [Symbol.dispose](): void {
    for (const { buffer, isRead } of this.#idle.splice(0)) {
      buffer[Symbol.dispose]();
      isRead[Symbol.dispose]();
    }
  }

  async #fill(target: Address, source: Address, byteLength: number): Promise<void> {
    const lanes = Math.min(LANES, Math.ceil(byteLength / LEAST_LANE_BYTES));
    const laneBytes = Math.ceil(byteLength / lanes);
    await Promise.all(Array.from({ length: lanes }, (_, i) => {
      const from = i * laneBytes;
      const length = Math.min(laneBytes, byteLength - from);
      const at = BigInt(from);
      return this.#cudart.memory.copyAside(target + at, source + at, length);
    }));
  }

  #copyToDevice(target: Address, source: Address, byteLength: number): void {
    const options = { byteLength, kind: CopyKind.hostToDevice, stream: this.#stream };
    this.#recorder.during(
      "cudaMemcpyAsync",
      () => this.#cudart.copyAsync(target, source, options),
    );
  }

  /** `undefined` when no more memory can be pinned, which is not tried again. */
  #makeSlot(): Slot | undefined {
    this.#made++;
    try {
      const buffer = this.#recorder.during(
        "cudaMallocHost",
        () => this.#cudart.allocatePinned(RELAY_BYTES),
      );
      return { buffer, isRead: this.#cudart.createEvent() };
    } catch (error) {
      if (error instanceof NativeError) return undefined;
      throw error;
    }
  }
}
