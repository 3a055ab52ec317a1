/** The few weights that evolve, as one vector, and as the state dict that goes to the servers. */
import { bfloat16ToFloat32, type DType, openCheckpoint } from "@sglang-rl/sglang-rl/checkpoint";
import type { StateDict } from "@sglang-rl/sglang-rl/weights/sources";

/**
 * The biases of the last layer's values: a few numbers that shift what the model says everywhere.
 * Evolution strategies need samples in proportion to the numbers, so few are chosen.
 */
const EVOLVING = /layers\.(\d+)\.self_attn\.v_proj\.bias$/;

interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly length: number;
}

/** Weights cut out of a checkpoint. */
export class Parameters {
  /** Their values, end to end. */
  readonly vector: Float32Array;
  readonly #tensors: readonly Tensor[];

  private constructor(vector: Float32Array, tensors: readonly Tensor[]) {
    this.vector = vector;
    this.#tensors = tensors;
  }

  /** Reads the evolving weights of a float32 or bfloat16 checkpoint. */
  static async read(folder: string): Promise<Parameters> {
    await using checkpoint = await openCheckpoint(folder);
    const tensors: Tensor[] = [];
    const values: number[] = [];
    const layers = [...checkpoint.tensors.keys()].map((name) => Number(EVOLVING.exec(name)?.[1]));
    const lastLayer = Math.max(...layers.filter(Number.isInteger));
    for (const { name, shape, dtype } of checkpoint.tensors.values()) {
      if (Number(EVOLVING.exec(name)?.[1]) !== lastLayer) continue;
      const data = toFloat32(name, dtype, await checkpoint.read(name));
      tensors.push({ name, shape, length: data.length });
      values.push(...data);
    }
    if (tensors.length === 0) throw new Error(`${folder} has no value biases; take a Qwen2 model`);
    return new Parameters(Float32Array.from(values), tensors);
  }

  /**
   * What the trainer declares to the sync scheme: only these travel, the rest stays. The servers
   * cast them to their own type.
   */
  get metadata(): Record<string, { dtype: "float32"; shape: readonly number[] }> {
    return Object.fromEntries(
      this.#tensors.map(({ name, shape }) => [name, { dtype: "float32", shape }]),
    );
  }

  /** A vector as named tensors. */
  toStateDict(vector: Float32Array): StateDict {
    let at = 0;
    return Object.fromEntries(
      this.#tensors.map(({ name, shape, length }) => {
        const data = vector.subarray(at, at += length);
        return [name, { data, shape, dtype: "float32" }];
      }),
    );
  }
}

function toFloat32(name: string, dtype: DType, bytes: Uint8Array<ArrayBuffer>): Float32Array {
  if (dtype === "float32") return new Float32Array(bytes.buffer);
  if (dtype === "bfloat16") return bfloat16ToFloat32(new Uint16Array(bytes.buffer));
  throw new Error(`${name} is ${dtype}; this example takes float32 and bfloat16`);
}
