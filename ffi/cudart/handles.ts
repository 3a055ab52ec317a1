import { OwnedHandle } from "../handle.ts";
import type { Address } from "../memory.ts";

type Free = (address: Address) => void;

/** Device memory with one owner. */
export class DeviceBuffer extends OwnedHandle {
  /** Size in bytes. */
  readonly byteLength: number;
  readonly #free: Free;

  /** Takes ownership; made by `Cudart.allocate`. */
  constructor(address: Address, byteLength: number, free: Free) {
    super(`device buffer of ${byteLength} bytes`, address);
    this.byteLength = byteLength;
    this.#free = free;
  }

  /** Frees the memory. Waits for the device's work. */
  protected override release(address: Address): void {
    this.#free(address);
  }
}

/** Pinned host memory with one owner. */
export class PinnedBuffer extends OwnedHandle {
  /** Size in bytes. */
  readonly byteLength: number;
  /** The memory as an array, when it is a JavaScript buffer that was pinned. */
  readonly bytes: Uint8Array<ArrayBuffer> | undefined;
  readonly #free: Free;

  /** Takes ownership; made by `Cudart.allocatePinned` and `Cudart.pin`. */
  constructor(
    address: Address,
    options: {
      readonly byteLength: number;
      readonly free: Free;
      readonly bytes: Uint8Array<ArrayBuffer> | undefined;
    },
  ) {
    super(`pinned buffer of ${options.byteLength} bytes`, address);
    this.byteLength = options.byteLength;
    this.bytes = options.bytes;
    this.#free = options.free;
  }

  /** Frees or unpins the memory. */
  protected override release(address: Address): void {
    this.#free(address);
  }
}

/** A CUDA stream with one owner. */
export class Stream extends OwnedHandle {
  readonly #free: Free;

  /** Takes ownership; made by `Cudart.createStream`. */
  constructor(address: Address, free: Free) {
    super("stream", address);
    this.#free = free;
  }

  /** Destroys the stream once its work is done. */
  protected override release(address: Address): void {
    this.#free(address);
  }
}

/** A CUDA event with one owner. */
export class Event extends OwnedHandle {
  readonly #free: Free;

  /** Takes ownership; made by `Cudart.createEvent`. */
  constructor(address: Address, free: Free) {
    super("event", address);
    this.#free = free;
  }

  /** Destroys the event. */
  protected override release(address: Address): void {
    this.#free(address);
  }
}
