import { checkOptionNames, type OptionNames } from "../../src/internal/option_names.ts";
import type { StagePiece } from "../../src/collective/group.ts";
import { StateError } from "../../src/errors.ts";
import { type Logger, silentLogger } from "../../src/internal/logger.ts";
import type { LibraryOptions } from "../library.ts";
import { type CallOptions, Communicator } from "../nccl/communicator.ts";
import { hostBytes, totalLandedBytes, wirePiece } from "../nccl/pieces.ts";

/** Device memory that another process on this host can map. */
export interface IpcMemory {
  /** `cudaIpcMemHandle_t`, 64 bytes. */
  readonly handle: Uint8Array<ArrayBuffer>;
  /** The device's UUID, as PyTorch writes it. */
  readonly deviceUuid: string;
}

/** What a {@linkcode DeviceExporter} is opened with. */
export interface DeviceExporterOptions {
  /** Index of the device, among those that `CUDA_VISIBLE_DEVICES` leaves. Default 0. */
  readonly device?: number | undefined;
  /** Where the CUDA runtime and the driver are. */
  readonly libraries?: LibraryOptions | undefined;
  /** Longest time of each step in milliseconds. Default 60 s. */
  readonly timeoutMs?: number | undefined;
  /** Cancels the opening. */
  readonly signal?: AbortSignal | undefined;
  /** Hears what happens. */
  readonly logger?: Logger | undefined;
}

const NAMES = {
  device: true,
  libraries: true,
  timeoutMs: true,
  signal: true,
  logger: true,
} as const satisfies OptionNames<DeviceExporterOptions>;

interface Slot {
  readonly address: bigint;
  readonly byteLength: number;
  readonly memory: IpcMemory;
}

/**
 * Device memory of this process for other processes on this host, by CUDA IPC. The device has a
 * thread of its own, so the event loop never waits for it.
 *
 * Permissions: `--allow-ffi=<CUDA runtime>,<CUDA driver>`; `--allow-read` for this library's own
 * files.
 *
 * @example
 * ```ts ignore
 * import { DeviceExporter } from "@sglang-rl/sglang-rl/nccl";
 *
 * await using exporter = await DeviceExporter.open({ device: 0 });
 * const { handle, deviceUuid } = await exporter.place(0, new Uint8Array(1024));
 * ```
 */
export class DeviceExporter implements AsyncDisposable {
  readonly #thread: Communicator;
  readonly #slots = new Map<number, Slot>();
  readonly #timeoutMs: number;
  readonly #logger: Logger;

  private constructor(thread: Communicator, options: DeviceExporterOptions) {
    this.#thread = thread;
    this.#timeoutMs = options.timeoutMs ?? 60_000;
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
  static async open(options: DeviceExporterOptions = {}): Promise<DeviceExporter> {
    checkOptionNames(options, NAMES, "DeviceExporter.open()");
    return new DeviceExporter(await Communicator.open({ ...options, collectives: false }), options);
  }

  /** Pinned host memory, from which copies to the device are fastest; the exporter owns it. */
  stagingBuffer(byteLength: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(byteLength);
    if (byteLength === 0) return bytes;
    const address = this.#thread.hold(bytes);
    const wait = this.#wait("pin staging memory");
    this.#thread.request("pin", { address, byteLength }, wait).catch((error: Error) => {
      // Memory that cannot be pinned is copied all the same, only slower.
      this.#logger.warn(`CUDA IPC: ${error.message}`);
    });
    return bytes;
  }

  /**
   * Copies bytes, or pieces one after the other, to the device memory of a slot, which grows as
   * needed, and gives its handle. What the slot held before is overwritten: nobody may be reading
   * it.
   *
   * @throws {NativeError} The device has too little memory.
   */
  async place(
    slot: number,
    content: Uint8Array | readonly StagePiece[],
    call: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<IpcMemory> {
    const given = content instanceof Uint8Array ? [{ bytes: content }] : content;
    const pieces = given
      .map((piece) => wirePiece(piece, (bytes) => this.#thread.addressOf(bytes)))
      .filter(({ byteLength }) => byteLength > 0);
    const { address, memory } = await this.#reserve(slot, totalLandedBytes(pieces), call.signal);
    const wait = { ...this.#wait("copy to the device", call.signal), keep: hostBytes(given) };
    await this.#thread.request("gather", { target: address, pieces }, wait);
    return memory;
  }

  /** Frees the memory; nobody may be reading it. */
  async close(): Promise<void> {
    if (this.#thread.ended instanceof StateError) return;
    await this.#thread.close(this.#wait("close device"));
  }

  /** Frees the memory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #reserve(
    slot: number,
    byteLength: number,
    signal: AbortSignal | undefined,
  ): Promise<Slot> {
    const current = this.#slots.get(slot);
    if (current !== undefined && current.byteLength >= byteLength) return current;
    const wait = this.#wait("allocate device memory", signal);
    if (current !== undefined) {
      this.#slots.delete(slot);
      await this.#thread.request("free", { address: current.address }, wait);
    }
    const address = await this.#thread.request("allocate", { byteLength }, wait);
    const memory = await this.#thread.request("ipcHandle", { address }, wait);
    const reserved = { address, byteLength, memory };
    this.#slots.set(slot, reserved);
    return reserved;
  }

  #wait(step: string, signal?: AbortSignal): CallOptions {
    return { phase: `CUDA IPC: ${step}`, timeoutMs: this.#timeoutMs, signal };
  }
}
