/**
 * Weights of a bfloat16 or float32 trainer as FP8 with a scale for each block of 128 by 128, as
 * checkpoints with `quantization_config: {"quant_method": "fp8", "weight_block_size": [128, 128]}`
 * hold them.
 *
 * Source: SGLang `srt/layers/quantization/fp8.py` (names, types and shapes of weight and
 * `weight_scale_inv`), torch `c10/util/Float8_e4m3fn.h` (rounding).
 *
 * @module
 */
import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { setImmediate } from "node:timers/promises";
import { type TensorInfo, tensorSizeBytes } from "../../checkpoint/dtype.ts";
import type { DeviceMemory } from "../../collective/group.ts";
import { StateError, UnsupportedError, ValidationError } from "../../errors.ts";
import { throwIfAborted } from "../../internal/deadline.ts";
import { type ModelInput, toSource } from "./input.ts";
import type { Float8Origin, OpenWeightSource, WeightSource } from "./source.ts";

/** Rows and columns that share a scale. */
const BLOCK = 128;
/** Largest value of float8_e4m3fn. */
const LARGEST = 448;
const SUFFIX = "_scale_inv";
/** Elements between two turns of the event loop: some milliseconds. */
const SLICE = 2 ** 20;
/** Layers that FP8 checkpoints of today's models hold as FP8. */
const LINEAR = /(_proj|_proj_with_mqa|\.w[123]|\.(q|kv)_[ab]_proj)\.weight$/;

/** Options of {@linkcode float8Blocks}. */
export interface Float8Options {
  /**
   * Which tensors become FP8, by name. Default matrices whose layer is named as a projection
   * (`…q_proj.weight`, `…down_proj.weight`, also of single experts): embeddings, norms, routers and
   * the head stay as they are. Must be those that the servers' checkpoint holds as FP8; another
   * choice is refused by the sync's comparison with the servers' model.
   */
  readonly select?: ((name: string) => boolean) | undefined;
}

const NAMES = {
  select: true,
} as const satisfies OptionNames<Float8Options>;

/**
 * The same weights for servers that hold FP8 in blocks: each chosen matrix as `float8_e4m3fn` and
 * after it its scales, `<name>_scale_inv` (float32), made of the same values in the same sync.
 *
 * Transports that send from a GPU make it there, from files and memory too; others in this process,
 * on one thread.
 *
 * @param model What `updateWeights()` takes; the chosen matrices bfloat16 or float32, in files, in this
 *   process's memory, or in one piece in that of the sending GPU.
 *
 * @example
 * ```ts ignore
 * import { float8Blocks, safetensors } from "@sglang-rl/sglang-rl/weights/sources";
 *
 * await sender.updateWeights(float8Blocks(safetensors("checkpoints/step-20")));
 * ```
 */
export function float8Blocks(model: ModelInput, options: Float8Options = {}): WeightSource {
  checkOptionNames(options, NAMES, "float8Blocks()");
  const source = toSource(model, "state_dict");
  const { select = (name) => LINEAR.test(name) } = options;
  return {
    label: `${source.label}, as FP8 in blocks`,
    async open(call) {
      return new Float8Source(await source.open(call), select);
    },
  };
}

/** A tensor that is given: one of the inner source as it is, its FP8 values, or their scales. */
interface Given extends TensorInfo {
  readonly inner: number;
  readonly part: "plain" | "values" | "scales";
}

class Float8Source implements OpenWeightSource {
  readonly tensors: readonly Given[];
  readonly #inner: OpenWeightSource;
  /** The other half of a matrix of which one was read. */
  readonly #halves = new Map<number, Uint8Array>();

  constructor(inner: OpenWeightSource, select: (name: string) => boolean) {
    this.#inner = inner;
    this.tensors = inner.tensors.flatMap((tensor, index): Given[] => {
      const { name, dtype, shape } = tensor;
      if (shape.length !== 2 || dtype === "float8_e4m3fn" || !select(name)) {
        return [{ ...tensor, inner: index, part: "plain" }];
      }
      if (dtype !== "bfloat16" && dtype !== "float32") {
        throw new UnsupportedError(
          `"${name}" is ${dtype}; FP8 is made of bfloat16 or float32. Leave it out with select`,
        );
      }
      if ([inner.device?.(index) ?? []].flat().length > 1) {
        throw new UnsupportedError(
          `"${name}" lies in shards in device memory, and FP8 is made of whole matrices: push it ` +
            "whole, or leave it out with select",
        );
      }
      const scales = shape.map((size) => Math.ceil(size / BLOCK));
      return [
        { name, dtype: "float8_e4m3fn", shape, inner: index, part: "values" },
        { name: name + SUFFIX, dtype: "float32", shape: scales, inner: index, part: "scales" },
      ];
    });
  }

  view(index: number): Uint8Array | undefined {
    const { inner, part } = this.tensors[index]!;
    return part === "plain" ? this.#inner.view(inner) : undefined;
  }

  device(index: number): DeviceMemory | readonly DeviceMemory[] | undefined {
    const { inner, part } = this.tensors[index]!;
    return part === "plain" ? this.#inner.device?.(inner) : undefined;
  }

  float8(index: number): Float8Origin | undefined {
    const { inner: of, part } = this.tensors[index]!;
    if (part === "plain") return undefined;
    const source = this.#inner;
    // Both halves read it, one of them perhaps in a later bucket.
    const isAtHand = source.device?.(of) !== undefined || source.view(of) !== undefined ||
      source.readsAtOnce !== undefined;
    return isAtHand ? { source, index: of, part } : undefined;
  }

  async read(index: number, target: Uint8Array, call: { signal: AbortSignal }): Promise<void> {
    const { inner, part } = this.tensors[index]!;
    if (part === "plain") return await this.#inner.read(inner, target, call);
    const ready = this.#halves.get(index);
    if (ready !== undefined) {
      target.set(ready);
      this.#halves.delete(index);
      return;
    }
    const other = part === "values" ? index + 1 : index - 1;
    const half = new Uint8Array(tensorSizeBytes(this.tensors[other]!));
    const [values, scales] = part === "values" ? [target, half] : [half, target];
    await this.#quantise(inner, { values, scales }, call);
    this.#halves.set(other, half);
  }

  async confirm(call: { signal: AbortSignal }): Promise<void> {
    await this.#inner.confirm?.(call);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#halves.clear();
    await this.#inner[Symbol.asyncDispose]();
  }

  async #quantise(
    index: number,
    into: { readonly values: Uint8Array; readonly scales: Uint8Array },
    call: { readonly signal: AbortSignal },
  ): Promise<void> {
    const tensor = this.#inner.tensors[index]!;
    if (this.#inner.device?.(index) !== undefined) {
      throw new UnsupportedError(
        `"${tensor.name}" lies in device memory, where this transport makes no FP8: use transport ` +
          `"nccl", or copy it to this process's memory first`,
      );
    }
    let bytes = this.#inner.view(index);
    if (bytes === undefined) {
      bytes = new Uint8Array(tensorSizeBytes(tensor));
      await this.#inner.read(index, bytes, call);
    }
    const scales = new Float32Array(into.scales.byteLength / 4);
    await quantiseBlocks(tensor, bytes, { values: into.values, scales, signal: call.signal });
    into.scales.set(new Uint8Array(scales.buffer));
  }
}

/**
 * Casts a matrix: each block's scale is its largest magnitude by 448 (1 where all are zero), its values
 * are divided by that in float32 and rounded to the nearest, halves to even.
 *
 * @throws {ValidationError} It holds NaN or infinity.
 */
export async function quantiseBlocks(
  matrix: TensorInfo,
  bytes: Uint8Array,
  into: {
    readonly values: Uint8Array;
    readonly scales: Float32Array;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<void> {
  const [rows = 0, columns = 0] = matrix.shape;
  const across = Math.ceil(columns / BLOCK);
  const valueAt = reader(matrix, bytes);
  const largest = new Float64Array(across);
  const scaled = new Float32Array(columns);
  const bits = new Uint32Array(scaled.buffer);
  let sinceTurn = 0;
  for (let top = 0; top < rows; top += BLOCK) {
    const bottom = Math.min(rows, top + BLOCK);
    largest.fill(0);
    for (let row = top; row < bottom; row++) {
      const start = row * columns;
      for (let column = 0; column < columns; column++) {
        const magnitude = Math.abs(valueAt[start + column]!);
        const block = column >>> 7;
        // NaN is not at most anything, and stays.
        if (!(magnitude <= largest[block]!)) largest[block] = magnitude;
      }
    }
    const first = (top >>> 7) * across;
    for (let block = 0; block < across; block++) {
      if (!Number.isFinite(largest[block]!)) {
        throw new ValidationError(
          `Weight "${matrix.name}" holds NaN or an infinity in rows ${top} to ${
            bottom - 1
          }: FP8 has ` +
            "no scale for it",
        );
      }
      into.scales[first + block] = largest[block] === 0 ? 1 : largest[block]! / LARGEST;
    }
    for (let row = top; row < bottom; row++) {
      const start = row * columns;
      for (let column = 0; column < columns; column++) {
        // Storing rounds to float32, as torch divides.
        scaled[column] = valueAt[start + column]! / into.scales[first + (column >>> 7)]!;
      }
      for (let column = 0; column < columns; column++) {
        into.values[start + column] = float8OfBits(bits[column]!, scaled[column]!);
      }
    }
    sinceTurn += (bottom - top) * columns;
    if (sinceTurn < SLICE) continue;
    sinceTurn = 0;
    await setImmediate();
    throwIfAborted(into.signal, "cast to FP8");
  }
}

/** The values of a matrix as float32. */
function reader({ dtype, name }: TensorInfo, bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset, byteLength } = aligned;
  if (dtype === "float32") return new Float32Array(buffer, byteOffset, byteLength / 4);
  if (dtype !== "bfloat16") throw new StateError(`"${name}" is ${dtype}`);
  const halves = new Uint16Array(buffer, byteOffset, byteLength / 2);
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16;
  return new Float32Array(words.buffer);
}

/** Smallest magnitude with three bits behind the leading one. */
const SMALLEST_NORMAL = 2 ** -6;
/** Added and taken away, it rounds a double to a whole number, halves to even. */
const ROUNDING = 1.5 * 2 ** 52;

/** A float32 of magnitude at most 464 as float8_e4m3fn, to the nearest, halves to even. */
export function float8Of(value: number): number {
  const float = Float32Array.of(value);
  return float8OfBits(new Uint32Array(float.buffer)[0]!, float[0]!);
}

function float8OfBits(bits: number, value: number): number {
  const sign = (bits >>> 24) & 0x80;
  const magnitude = value < 0 ? -value : value;
  if (magnitude < SMALLEST_NORMAL) return sign | (magnitude * 512 + ROUNDING - ROUNDING);
  const low = bits & 0x7fffffff;
  const rounded = (low + 0x7ffff + ((low >>> 20) & 1)) >>> 20;
  return sign | (rounded - (120 << 3));
}
