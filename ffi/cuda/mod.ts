/**
 * Checked calls of the CUDA driver: modules from PTX text, kernel launches, the device's UUID. They
 * act on the context that the CUDA runtime has made current on this thread.
 *
 * @module
 */
import { NativeError } from "../../src/errors.ts";
import type { Stream } from "../cudart/handles.ts";
import { OwnedHandle } from "../handle.ts";
import { libcSymbols } from "../libc/symbols.ts";
import { type LibraryOptions, openLibrary } from "../library.ts";
import { type Address, Memory, nullAddress, toCString } from "../memory.ts";
import { cudaSymbols } from "./symbols.ts";

type Calls = Deno.DynamicLibrary<typeof cudaSymbols>["symbols"];

/** A module with one kernel, compiled for the current device. */
export class Kernel extends OwnedHandle {
  /** The kernel's function. */
  readonly entry: Address;
  readonly #unload: (address: Address) => void;

  /** Takes ownership; made by `CudaDriver.load`. */
  constructor(module: Address, entry: Address, unload: (address: Address) => void) {
    super("kernel module", module);
    this.entry = entry;
    this.#unload = unload;
  }

  /** Unloads the module. */
  protected override release(address: Address): void {
    this.#unload(address);
  }
}

/** The CUDA driver. */
export class CudaDriver {
  readonly #calls: Calls;
  readonly #memory: Memory;
  readonly #word = new BigUint64Array(1);
  readonly #wordBytes = new Uint8Array(this.#word.buffer);
  // Arguments and the addresses of each lie in one buffer that lives as long as this object.
  readonly #launch = new BigUint64Array(32);
  readonly #launchAddress: Address;

  private constructor(calls: Calls, memory: Memory) {
    this.#calls = calls;
    this.#memory = memory;
    this.#launchAddress = memory.addressOf(new Uint8Array(this.#launch.buffer));
  }

  /** Opens the library and starts the driver. @throws {LibraryError} It is nowhere. */
  static open(options: LibraryOptions = {}): CudaDriver {
    const { symbols } = openLibrary("cuda", { ...cudaSymbols, ...libcSymbols }, options);
    const driver = new CudaDriver(symbols, new Memory(symbols));
    driver.#check(symbols.cuInit(0), "cuInit");
    return driver;
  }

  /**
   * The device's UUID as `nvidia-smi -L` and `torch.cuda.get_device_properties` write it, without
   * the `GPU-` in front.
   */
  deviceUuid(device: number): string {
    const uuid = new Uint8Array(16);
    this.#check(this.#calls.cuDeviceGet(this.#wordBytes, device), "cuDeviceGet");
    const handle = new Int32Array(this.#word.buffer, 0, 1)[0]!;
    this.#check(this.#calls.cuDeviceGetUuid_v2(uuid, handle), "cuDeviceGetUuid");
    return formatUuid(uuid);
  }

  /** Compiles a module from PTX text and finds its kernel. */
  load(ptx: string, kernel: string): Kernel {
    const loaded = this.#calls.cuModuleLoadDataEx(
      this.#wordBytes,
      toCString(ptx),
      0,
      nullAddress,
      nullAddress,
    );
    this.#check(loaded, "cuModuleLoadDataEx");
    const module = this.#word[0]!;
    const found = this.#calls.cuModuleGetFunction(this.#wordBytes, module, toCString(kernel));
    this.#check(found, "cuModuleGetFunction");
    return new Kernel(module, this.#word[0]!, (address) => {
      this.#check(this.#calls.cuModuleUnload(address), "cuModuleUnload");
    });
  }

  /** Launches a kernel whose parameters are all 64 bits wide. */
  launch(
    kernel: Kernel,
    parameters: readonly bigint[],
    shape: { readonly blocks: number; readonly threads: number; readonly stream: Stream },
  ): void {
    const addresses = packParameters(this.#launch, this.#launchAddress, parameters);
    const result = this.#calls.cuLaunchKernel(
      kernel.entry,
      shape.blocks,
      1,
      1,
      shape.threads,
      1,
      1,
      0,
      shape.stream.address,
      addresses,
      nullAddress,
    );
    this.#check(result, "cuLaunchKernel");
  }

  #check(result: number, call: string): void {
    if (result === 0) return;
    const name = this.#text(this.#calls.cuGetErrorName(result, this.#wordBytes));
    const text = this.#text(this.#calls.cuGetErrorString(result, this.#wordBytes));
    throw new NativeError(`${call} failed with ${result} (${name}): ${text}`, { call, result });
  }

  #text(result: number): string {
    return result === 0 ? this.#memory.cString(this.#word[0]!) : "unknown";
  }
}

/**
 * Writes the parameters to the first half of `target` and the address of each to the second half,
 * as `cuLaunchKernel` takes them (`void **kernelParams`); gives the address of the second half.
 */
export function packParameters(
  target: BigUint64Array,
  targetAddress: Address,
  parameters: readonly bigint[],
): Address {
  const half = target.length / 2;
  parameters.forEach((parameter, i) => {
    target[i] = parameter;
    target[half + i] = targetAddress + BigInt(8 * i);
  });
  return targetAddress + BigInt(8 * half);
}

/** Sixteen bytes in the usual groups of 8, 4, 4, 4 and 12 hexadecimal digits. */
export function formatUuid(bytes: Uint8Array): string {
  const hex = bytes.toHex();
  const groups = [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]] as const;
  return groups.map(([from, to]) => hex.slice(from, to)).join("-");
}
