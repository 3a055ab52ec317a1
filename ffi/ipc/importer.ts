import { type Logger, silentLogger } from "../../src/internal/logger.ts";
import { type CallOptions, Communicator } from "../nccl/communicator.ts";
import type { DeviceExporterOptions } from "./exporter.ts";

/**
 * Device memory of other processes on this host, by CUDA IPC. What is mapped can be read by all
 * threads of this process that use the same device.
 *
 * Permissions: `--allow-ffi=<CUDA runtime>,<CUDA driver>`; `--allow-read` for this library's own
 * files.
 *
 * @example
 * ```ts ignore
 * import { DeviceImporter } from "@sglang-rl/sglang-rl/nccl";
 *
 * await using importer = await DeviceImporter.open({ device: 0 });
 * const address = await importer.map(handle, 1024); // `handle` came from the other process
 * await importer.unmap(address);
 * ```
 */
export class DeviceImporter implements AsyncDisposable {
  readonly #thread: Communicator;
  readonly #timeoutMs: number;
  readonly #logger: Logger;

  private constructor(thread: Communicator, options: DeviceExporterOptions) {
    this.#thread = thread;
    this.#timeoutMs = options.timeoutMs ?? 60_000;
    this.#logger = options.logger ?? silentLogger;
  }

  /**
   * Opens the device that shall read the memory.
   *
   * @throws {LibraryError} A library is nowhere.
   * @throws {PermissionError} Deno was not allowed to open a library, or to start the thread.
   * @throws {NativeError} There is no driver or no such device.
   * @throws {TimeoutError} The device did not open in time.
   */
  static async open(options: DeviceExporterOptions = {}): Promise<DeviceImporter> {
    return new DeviceImporter(await Communicator.open({ ...options, collectives: false }), options);
  }

  /**
   * Maps a whole allocation of another process; it stays until it is unmapped, also when the other
   * process ends.
   *
   * @param handle `cudaIpcMemHandle_t`, 64 bytes.
   * @throws {NativeError} The handle is none, its process is gone, or the devices cannot reach each
   *   other.
   */
  async map(handle: Uint8Array<ArrayBuffer>, byteLength: number): Promise<bigint> {
    return await this.#thread.request("ipcOpen", { handle, byteLength }, this.#wait("map memory"));
  }

  /** Lets go of what was mapped; nobody may be reading it. */
  async unmap(address: bigint): Promise<void> {
    await this.#thread.request("free", { address }, this.#wait("unmap memory"));
  }

  /** Lets go of all and of the device. What fails is reported to the logger. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#thread.ended !== undefined) return;
    await this.#thread.close(this.#wait("close device"))
      .catch((error: Error) => this.#logger.warn(`CUDA IPC: ${error.message}`));
  }

  #wait(step: string): CallOptions {
    return { phase: `CUDA IPC: ${step}`, timeoutMs: this.#timeoutMs };
  }
}
