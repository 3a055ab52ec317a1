import { ValidationError } from "../../src/errors.ts";
import { CopyKind } from "../cudart/constants.ts";
import type { DeviceBuffer, PinnedBuffer, Stream } from "../cudart/handles.ts";
import type { Cudart } from "../cudart/mod.ts";
import type { Address } from "../memory.ts";
import type { CudaDriver, Kernel } from "./mod.ts";
import { castPtx, checksumPtx } from "./ptx.ts";
import { checkLength, foldChecksum, padTail, sumWords } from "./reference.ts";

const THREADS = 256;
/** Enough blocks to fill any GPU; the kernels loop over the rest. */
const MOST_BLOCKS = 4096;

/** The project's kernels, ready to run on the current device. */
export class Kernels implements Disposable {
  readonly #cudart: Cudart;
  readonly #driver: CudaDriver;
  readonly #cast: Kernel;
  readonly #checksum: Kernel;
  readonly #sums: DeviceBuffer;
  readonly #result: PinnedBuffer;

  /** Compiles the kernels for the current device. */
  constructor(cudart: Cudart, driver: CudaDriver) {
    this.#cudart = cudart;
    this.#driver = driver;
    this.#cast = driver.load(castPtx, "cast_f32_bf16");
    this.#checksum = driver.load(checksumPtx, "checksum");
    this.#sums = cudart.allocate(8);
    this.#result = cudart.allocatePinned(16);
  }

  /** Casts `count` float32 numbers at `source` to bfloat16 at `target`, on the stream. */
  cast(
    target: Address,
    source: Address,
    options: { readonly count: number; readonly stream: Stream },
  ): void {
    const { count, stream } = options;
    if (count === 0) return;
    if (source % 4n !== 0n || target % 2n !== 0n) {
      throw new ValidationError("The cast needs source and target aligned to their elements");
    }
    const shape = { blocks: blocksFor(count), threads: THREADS, stream };
    this.#driver.launch(this.#cast, [target, source, BigInt(count)], shape);
  }

  /**
   * The checksum of `byteLength` bytes of device memory; equals `checksumOf` of the same bytes.
   * Blocks this thread until the stream is done.
   */
  checksum(
    source: Address,
    options: { readonly byteLength: number; readonly stream: Stream },
  ): bigint {
    const { byteLength, stream } = options;
    checkLength(byteLength);
    if (source % 4n !== 0n) throw new ValidationError("A checksum needs an address aligned to 4");
    const words = Math.floor(byteLength / 4);
    const cudart = this.#cudart;
    cudart.fillAsync(this.#sums.address, 0, { byteLength: 8, stream });
    if (words > 0) {
      const shape = { blocks: blocksFor(words), threads: THREADS, stream };
      this.#driver.launch(this.#checksum, [this.#sums.address, source, BigInt(words)], shape);
    }
    const toHost = { kind: CopyKind.deviceToHost, stream };
    const result = this.#result.address;
    cudart.copyAsync(result, this.#sums.address, { ...toHost, byteLength: 8 });
    const restBytes = byteLength - 4 * words;
    const rest = source + BigInt(4 * words);
    cudart.copyAsync(result + 8n, rest, { ...toHost, byteLength: restBytes });
    cudart.synchronize(stream);
    const bytes = cudart.memory.read(result, 16);
    const [low, high] = new Uint32Array(bytes.buffer, 0, 2);
    const tail = restBytes > 0
      ? sumWords(padTail(bytes.subarray(8, 8 + restBytes)), words)
      : { low: 0, high: 0 };
    const sums = { low: (low! + tail.low) >>> 0, high: (high! + tail.high) >>> 0 };
    return foldChecksum(sums, byteLength);
  }

  /** Unloads the kernels. */
  [Symbol.dispose](): void {
    this.#cast[Symbol.dispose]();
    this.#checksum[Symbol.dispose]();
    this.#sums[Symbol.dispose]();
    this.#result[Symbol.dispose]();
  }
}

function blocksFor(count: number): number {
  return Math.min(MOST_BLOCKS, Math.ceil(count / THREADS));
}
