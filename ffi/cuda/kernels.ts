import { ValidationError } from "../../src/errors.ts";
import { CopyKind } from "../cudart/constants.ts";
import type { DeviceBuffer, PinnedBuffer, Stream } from "../cudart/handles.ts";
import type { Cudart } from "../cudart/mod.ts";
import type { Address } from "../memory.ts";
import type { CudaDriver, Kernel } from "./mod.ts";
import { castPtx, checksumPtx, findWordPtx, float8Ptx } from "./ptx.ts";
import type { Float8Cast, FoundWord, WordRange } from "../../src/collective/group.ts";
import { checkLength, foldChecksum, padTail, sumWords } from "./reference.ts";

const THREADS = 256;
/** Enough blocks to fill any GPU; the kernels loop over the rest. */
const MOST_BLOCKS = 4096;
/** Ranges that are searched before the device is waited for. */
const RANGES_AT_ONCE = 4096;
/** What kernels leave where they find nothing. */
const NOTHING = 2n ** 64n - 1n;
/** Rows and columns that share a scale. */
const FLOAT8_BLOCK = 128;

/** The project's kernels, ready to run on the current device. */
export class Kernels implements Disposable {
  readonly #cudart: Cudart;
  readonly #driver: CudaDriver;
  readonly #cast: Kernel;
  readonly #checksum: Kernel;
  readonly #findWord: Kernel;
  readonly #float8: Kernel;
  readonly #sums: DeviceBuffer;
  readonly #result: PinnedBuffer;
  /** Indexes that kernels find, one for each range. */
  readonly #found: DeviceBuffer;
  readonly #foundHere: PinnedBuffer;

  /** Compiles the kernels for the current device. */
  constructor(cudart: Cudart, driver: CudaDriver) {
    this.#cudart = cudart;
    this.#driver = driver;
    this.#cast = driver.load(castPtx, "cast_f32_bf16");
    this.#checksum = driver.load(checksumPtx, "checksum");
    this.#findWord = driver.load(findWordPtx, "find_word");
    this.#float8 = driver.load(float8Ptx, "float8_blocks");
    this.#sums = cudart.allocate(8);
    this.#result = cudart.allocatePinned(16);
    this.#found = cudart.allocate(8 * RANGES_AT_ONCE);
    this.#foundHere = cudart.allocatePinned(8 * RANGES_AT_ONCE);
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

  /**
   * The first word that is looked for, in the first range that has one. Blocks this thread until the
   * stream is done.
   */
  findWord(ranges: readonly WordRange[], stream: Stream): FoundWord | undefined {
    for (let from = 0; from < ranges.length; from += RANGES_AT_ONCE) {
      const found = this.#findIn(ranges.slice(from, from + RANGES_AT_ONCE), stream);
      if (found !== undefined) return { ...found, range: from + found.range };
    }
    return undefined;
  }

  #findIn(ranges: readonly WordRange[], stream: Stream): FoundWord | undefined {
    const byteLength = 8 * ranges.length;
    this.#cudart.fillAsync(this.#found.address, 0xff, { byteLength, stream });
    ranges.forEach(({ device, mask, add, test, step }, i) => {
      if (device.byteLength === 0) return;
      const result = this.#found.address + BigInt(8 * i);
      const bits = [mask, add, test].map((word) => BigInt(word >>> 0));
      const size = BigInt(device.byteLength);
      this.#driver.launch(
        this.#findWord,
        [result, device.address, size, ...bits, BigInt(step - 1)],
        { blocks: blocksFor(Math.ceil(device.byteLength / 4)), threads: THREADS, stream },
      );
    });
    const indexes = this.#readFound(ranges.length, stream);
    const range = indexes.findIndex((index) => index !== NOTHING);
    if (range < 0) return undefined;
    const index = Number(indexes[range]!);
    const { device } = ranges[range]!;
    const [here, rest] = [this.#foundHere.address, device.byteLength - 4 * index];
    this.#cudart.copyAsync(here, device.address + BigInt(4 * index), {
      byteLength: Math.min(4, rest),
      kind: CopyKind.deviceToHost,
      stream,
    });
    this.#cudart.synchronize(stream);
    const bytes = this.#cudart.memory.read(here, Math.min(4, rest));
    const word = new Uint8Array(4);
    word.set(bytes);
    return { range, index, word: new Uint32Array(word.buffer)[0]! };
  }

  #readFound(count: number, stream: Stream): BigUint64Array {
    const byteLength = 8 * count;
    const here = this.#foundHere.address;
    const kind = CopyKind.deviceToHost;
    this.#cudart.copyAsync(here, this.#found.address, { byteLength, kind, stream });
    this.#cudart.synchronize(stream);
    const bytes = this.#cudart.memory.read(here, byteLength);
    return new BigUint64Array(bytes.buffer, bytes.byteOffset, count);
  }

  /** Before matrices are cast to FP8 on a stream: none is known to hold NaN. */
  beginFloat8(stream: Stream): void {
    this.#cudart.fillAsync(this.#found.address, 0xff, { byteLength: 8, stream });
  }

  /**
   * Makes FP8 values or scales of whole rows of a matrix, on the stream. `id` is told by
   * {@linkcode Kernels.endFloat8} if they hold NaN or an infinity.
   */
  float8(
    target: Address,
    source: Address,
    options: Float8Cast & { readonly id: number; readonly stream: Stream },
  ): void {
    const { rows, columns, from, part, id, stream } = options;
    if (rows === 0 || columns === 0) return;
    const isWide = from === "float32";
    if (source % (isWide ? 4n : 2n) !== 0n || (part === "scales" && target % 4n !== 0n)) {
      throw new ValidationError("FP8 needs source and scales aligned to their elements");
    }
    const [values, scales] = part === "values" ? [target, 0n] : [0n, target];
    const blocks = Math.ceil(rows / FLOAT8_BLOCK) * Math.ceil(columns / FLOAT8_BLOCK);
    const size = [BigInt(rows), BigInt(columns), isWide ? 1n : 0n];
    const bad = [this.#found.address, BigInt(id)];
    const shape = { blocks, threads: THREADS, stream };
    this.#driver.launch(this.#float8, [values, scales, source, ...size, ...bad], shape);
  }

  /** The least `id` of rows that hold NaN or an infinity. Blocks until the stream is done. */
  endFloat8(stream: Stream): number | undefined {
    const [id] = this.#readFound(1, stream);
    return id === NOTHING ? undefined : Number(id);
  }

  /** Unloads the kernels. */
  [Symbol.dispose](): void {
    this.#cast[Symbol.dispose]();
    this.#checksum[Symbol.dispose]();
    this.#findWord[Symbol.dispose]();
    this.#float8[Symbol.dispose]();
    this.#found[Symbol.dispose]();
    this.#foundHere[Symbol.dispose]();
    this.#sums[Symbol.dispose]();
    this.#result[Symbol.dispose]();
  }
}

function blocksFor(count: number): number {
  return Math.min(MOST_BLOCKS, Math.ceil(count / THREADS));
}
