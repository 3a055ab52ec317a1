/**
 * Checked calls of the CUDA runtime. The current device belongs to a thread: everything that shares
 * a device is called from the thread that chose it.
 *
 * @module
 */
import { NativeError, ValidationError } from "../../src/errors.ts";
import { libcSymbols } from "../libc/symbols.ts";
import { type LibraryOptions, openLibrary } from "../library.ts";
import { type Address, Memory } from "../memory.ts";
import {
  type CopyKind,
  CudaResult,
  EVENT_DISABLE_TIMING,
  HOST_REGISTER_PORTABLE,
  IPC_HANDLE_BYTES,
  IPC_LAZY_PEER_ACCESS,
  STREAM_NON_BLOCKING,
} from "./constants.ts";
import { DeviceBuffer, Event, PinnedBuffer, Stream } from "./handles.ts";
import { cudartSymbols } from "./symbols.ts";

type Calls = Deno.DynamicLibrary<typeof cudartSymbols>["symbols"];

/** Free and total memory of the current device, in bytes. */
export interface FreeMemory {
  /** What can still be taken. */
  readonly freeBytes: number;
  /** What the device has. */
  readonly totalBytes: number;
}

const advice: Record<number, string> = {
  [CudaResult.memoryAllocation]: "Free device memory or use smaller buckets",
  [CudaResult.insufficientDriver]:
    "This machine has no NVIDIA driver, or one older than the CUDA runtime needs",
  [CudaResult.noDevice]: "This machine has no GPU that CUDA sees; check CUDA_VISIBLE_DEVICES",
  [CudaResult.invalidDevice]: "Give the index of a device that exists",
};

/** The CUDA runtime. */
export class Cudart {
  /** Path of the library. */
  readonly path: string;
  /** Native memory, through this library's handle. */
  readonly memory: Memory;
  readonly #calls: Calls;
  readonly #word = new BigUint64Array(1);
  readonly #wordBytes = new Uint8Array(this.#word.buffer);
  readonly #int = new Int32Array(this.#word.buffer, 0, 1);

  private constructor(calls: Calls, memory: Memory, path: string) {
    this.#calls = calls;
    this.memory = memory;
    this.path = path;
  }

  /** Opens the library. @throws {LibraryError} It is nowhere. */
  static open(options: LibraryOptions = {}): Cudart {
    const library = openLibrary("cudart", { ...cudartSymbols, ...libcSymbols }, options);
    return new Cudart(library.symbols, new Memory(library.symbols), library.path);
  }

  /** Throws when `result` is not success. */
  check(result: number, call: string, more = ""): void {
    if (result === CudaResult.success) return;
    const name = this.memory.cString(this.#calls.cudaGetErrorName(result));
    const text = this.memory.cString(this.#calls.cudaGetErrorString(result));
    const hint = advice[result];
    throw new NativeError(
      `${call} failed with ${result} (${name}): ${text}${more}${hint ? `. ${hint}` : ""}`,
      { call, result },
    );
  }

  /** Version of the runtime, such as 13000 for 13.0. */
  runtimeVersion(): number {
    this.check(this.#calls.cudaRuntimeGetVersion(this.#wordBytes), "cudaRuntimeGetVersion");
    return this.#int[0]!;
  }

  /** Newest CUDA version that the driver serves; 0 without a driver. */
  driverVersion(): number {
    this.check(this.#calls.cudaDriverGetVersion(this.#wordBytes), "cudaDriverGetVersion");
    return this.#int[0]!;
  }

  /** Number of devices. @throws {NativeError} There is no driver or no device. */
  deviceCount(): number {
    this.check(this.#calls.cudaGetDeviceCount(this.#wordBytes), "cudaGetDeviceCount");
    return this.#int[0]!;
  }

  /** Makes `device` the current one of this thread and starts its context. */
  setDevice(device: number): void {
    const count = this.deviceCount();
    if (device >= count) {
      throw new ValidationError(`There is no device ${device}: CUDA sees ${count}`);
    }
    this.check(this.#calls.cudaSetDevice(device), "cudaSetDevice");
    this.check(this.#calls.cudaFree(0n), "cudaFree");
  }

  /** One of the device's attributes (`enum cudaDeviceAttr`). */
  deviceAttribute(attribute: number, device: number): number {
    const result = this.#calls.cudaDeviceGetAttribute(this.#wordBytes, attribute, device);
    this.check(result, "cudaDeviceGetAttribute");
    return this.#int[0]!;
  }

  /** Free and total memory of the current device. */
  memoryInfo(): FreeMemory {
    const total = new BigUint64Array(1);
    const totalBytes = new Uint8Array(total.buffer);
    this.check(this.#calls.cudaMemGetInfo(this.#wordBytes, totalBytes), "cudaMemGetInfo");
    return { freeBytes: Number(this.#word[0]), totalBytes: Number(total[0]) };
  }

  /** Waits for all work of the device. Blocks this thread. */
  synchronizeDevice(): void {
    this.check(this.#calls.cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  /** Takes device memory. */
  allocate(byteLength: number): DeviceBuffer {
    const result = this.#calls.cudaMalloc(this.#wordBytes, BigInt(Math.max(1, byteLength)));
    this.check(result, "cudaMalloc", ` (asked for ${byteLength} bytes)`);
    const free = (address: Address) => this.check(this.#calls.cudaFree(address), "cudaFree");
    return new DeviceBuffer(this.#word[0]!, byteLength, free);
  }

  /** Takes pinned host memory, from which copies to the device are fast and asynchronous. */
  allocatePinned(byteLength: number): PinnedBuffer {
    const result = this.#calls.cudaMallocHost(this.#wordBytes, BigInt(Math.max(1, byteLength)));
    this.check(result, "cudaMallocHost", ` (asked for ${byteLength} bytes)`);
    const free = (address: Address) =>
      this.check(this.#calls.cudaFreeHost(address), "cudaFreeHost");
    return new PinnedBuffer(this.#word[0]!, { byteLength, free, bytes: undefined });
  }

  /** Pins a JavaScript buffer, so that files can be read straight into pinned memory. */
  pin(bytes: Uint8Array<ArrayBuffer>): PinnedBuffer {
    return this.#pinned(this.memory.addressOf(bytes), bytes.byteLength, bytes);
  }

  /** Pins host memory whose owner keeps it alive until the result is disposed. */
  pinAt(address: Address, byteLength: number): PinnedBuffer {
    return this.#pinned(address, byteLength, undefined);
  }

  /** Makes a stream that does not wait for the default stream. */
  createStream(): Stream {
    const result = this.#calls.cudaStreamCreateWithFlags(this.#wordBytes, STREAM_NON_BLOCKING);
    this.check(result, "cudaStreamCreateWithFlags");
    const free = (address: Address) =>
      this.check(this.#calls.cudaStreamDestroy(address), "cudaStreamDestroy");
    return new Stream(this.#word[0]!, free);
  }

  /** Makes an event; `timing` lets {@linkcode Cudart.elapsedMs} read it. */
  createEvent(options: { readonly timing?: boolean } = {}): Event {
    const flags = options.timing ? 0 : EVENT_DISABLE_TIMING;
    const result = this.#calls.cudaEventCreateWithFlags(this.#wordBytes, flags);
    this.check(result, "cudaEventCreateWithFlags");
    const free = (address: Address) =>
      this.check(this.#calls.cudaEventDestroy(address), "cudaEventDestroy");
    return new Event(this.#word[0]!, free);
  }

  /** Copies on a stream; returns before the copy is done when host memory is pinned. */
  copyAsync(
    target: Address,
    source: Address,
    options: { readonly byteLength: number; readonly kind: CopyKind; readonly stream: Stream },
  ): void {
    if (options.byteLength === 0) return;
    const { kind, stream } = options;
    const size = BigInt(options.byteLength);
    const result = this.#calls.cudaMemcpyAsync(target, source, size, kind, stream.address);
    this.check(result, "cudaMemcpyAsync");
  }

  /** Copies and waits. Blocks this thread. */
  copy(
    target: Address,
    source: Address,
    options: { readonly byteLength: number; readonly kind: CopyKind },
  ): void {
    if (options.byteLength === 0) return;
    const size = BigInt(options.byteLength);
    this.check(this.#calls.cudaMemcpy(target, source, size, options.kind), "cudaMemcpy");
  }

  /** Sets bytes of device memory on a stream. */
  fillAsync(
    target: Address,
    value: number,
    options: { readonly byteLength: number; readonly stream: Stream },
  ): void {
    if (options.byteLength === 0) return;
    const size = BigInt(options.byteLength);
    const result = this.#calls.cudaMemsetAsync(target, value, size, options.stream.address);
    this.check(result, "cudaMemsetAsync");
  }

  /** Marks this place in the stream's work. */
  record(event: Event, stream: Stream): void {
    this.check(this.#calls.cudaEventRecord(event.address, stream.address), "cudaEventRecord");
  }

  /** Makes the stream's later work wait for the event. */
  wait(stream: Stream, event: Event): void {
    const result = this.#calls.cudaStreamWaitEvent(stream.address, event.address, 0);
    this.check(result, "cudaStreamWaitEvent");
  }

  /** Whether the device has passed the event. */
  isDone(event: Event): boolean {
    return this.#isReady(this.#calls.cudaEventQuery(event.address), "cudaEventQuery");
  }

  /** Whether the stream has no work left. */
  isIdle(stream: Stream): boolean {
    return this.#isReady(this.#calls.cudaStreamQuery(stream.address), "cudaStreamQuery");
  }

  /** Waits for the stream. Blocks this thread. */
  synchronize(stream: Stream): void {
    this.check(this.#calls.cudaStreamSynchronize(stream.address), "cudaStreamSynchronize");
  }

  /** Milliseconds between two events made with `timing`. */
  elapsedMs(start: Event, end: Event): number {
    const result = this.#calls.cudaEventElapsedTime(this.#wordBytes, start.address, end.address);
    this.check(result, "cudaEventElapsedTime");
    return new Float32Array(this.#word.buffer, 0, 1)[0]!;
  }

  /**
   * Handle with which another process on this host can map the allocation. Only memory of
   * {@linkcode Cudart.allocate} has one.
   */
  ipcHandle(buffer: DeviceBuffer): Uint8Array<ArrayBuffer> {
    const handle = new Uint8Array(IPC_HANDLE_BYTES);
    this.check(this.#calls.cudaIpcGetMemHandle(handle, buffer.address), "cudaIpcGetMemHandle");
    return handle;
  }

  /** Maps device memory of another process on this host; disposing unmaps it. */
  openIpc(handle: Uint8Array<ArrayBuffer>, byteLength: number): DeviceBuffer {
    const result = this.#calls.cudaIpcOpenMemHandle(this.#wordBytes, handle, IPC_LAZY_PEER_ACCESS);
    this.check(result, "cudaIpcOpenMemHandle");
    const unmap = (address: Address) =>
      this.check(this.#calls.cudaIpcCloseMemHandle(address), "cudaIpcCloseMemHandle");
    return new DeviceBuffer(this.#word[0]!, byteLength, unmap);
  }

  #pinned(
    address: Address,
    byteLength: number,
    bytes: Uint8Array<ArrayBuffer> | undefined,
  ): PinnedBuffer {
    const size = BigInt(byteLength);
    const result = this.#calls.cudaHostRegister(address, size, HOST_REGISTER_PORTABLE);
    this.check(result, "cudaHostRegister", ` (asked for ${byteLength} bytes)`);
    const free = (pinned: Address) =>
      this.check(this.#calls.cudaHostUnregister(pinned), "cudaHostUnregister");
    return new PinnedBuffer(address, { byteLength, free, bytes });
  }

  #isReady(result: number, call: string): boolean {
    if (result === CudaResult.notReady) return false;
    this.check(result, call);
    return true;
  }
}
