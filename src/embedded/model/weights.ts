/** The weights of a model as `Float32Array`s, by their Hugging Face names. */
import {
  bfloat16ToFloat32,
  type DType,
  float16ToFloat32,
  type TensorInfo,
} from "../../checkpoint/mod.ts";
import { type ModelConfig, weightShapes } from "./config.ts";
import { SimdMatrices } from "./simd.ts";

/** One tensor: what it is and its bytes, C-contiguous and little-endian. */
export interface Tensor extends TensorInfo {
  readonly bytes: Uint8Array;
}

/** A matrix with an optional bias. */
export interface Linear {
  readonly weight: Float32Array;
  readonly bias: Float32Array | null;
}

/** The weights of one transformer layer. */
export interface LayerWeights {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
  readonly inputNorm: Float32Array;
  readonly postNorm: Float32Array;
}

/** All weights of a model. Loading writes into the arrays, so views of them stay valid. */
export class ModelWeights {
  readonly embedding: Float32Array;
  readonly head: Linear;
  readonly norm: Float32Array;
  readonly layers: readonly LayerWeights[];
  readonly #shapes: ReadonlyMap<string, readonly number[]>;
  readonly #tensors = new Map<string, Float32Array>();
  /** What multiplies with them fast; `null` where that cannot be had. */
  readonly matrices: SimdMatrices | null;

  constructor(config: ModelConfig) {
    this.#shapes = weightShapes(config);
    const lengths = [...this.#shapes.values()].map(product);
    const sides = [...this.#shapes.values()].flat();
    this.matrices = SimdMatrices.make(lengths, Math.max(...sides));
    for (const [name, shape] of this.#shapes) {
      const length = product(shape);
      this.#tensors.set(name, this.matrices?.allocate(length) ?? new Float32Array(length));
    }
    this.embedding = this.#get("model.embed_tokens.weight");
    this.head = {
      weight: config.tiedHead ? this.embedding : this.#get("lm_head.weight"),
      bias: null,
    };
    this.norm = this.#get("model.norm.weight");
    this.layers = Array.from({ length: config.layers }, (_, layer) => this.#layer(layer));
  }

  /** Names of all weights. */
  get names(): string[] {
    return [...this.#shapes.keys()];
  }

  /** Shape of a weight, or `undefined` for a name that the model does not have. */
  shapeOf(name: string): readonly number[] | undefined {
    return this.#shapes.get(name);
  }

  /** Values of a weight. */
  valuesOf(name: string): Float32Array | undefined {
    return this.#tensors.get(name);
  }

  /**
   * Takes over a tensor, converting its element type. A name that the model lacks is ignored, as
   * the real server ignores it; a wrong shape throws with the real server's words.
   */
  load(tensor: Tensor): boolean {
    const target = this.#tensors.get(tensor.name);
    const shape = this.#shapes.get(tensor.name);
    if (target === undefined || shape === undefined) return false;
    if (shape.length !== tensor.shape.length || shape.some((n, i) => n !== tensor.shape[i])) {
      throw new Error(
        `Attempted to load weight (torch.Size([${tensor.shape.join(", ")}])) into parameter ` +
          `(torch.Size([${shape.join(", ")}]))`,
      );
    }
    decodeInto(target, tensor);
    return true;
  }

  #get(name: string): Float32Array {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`No weight ${name}`);
    return tensor;
  }

  #layer(index: number): LayerWeights {
    const prefix = `model.layers.${index}.`;
    const linear = (name: string): Linear => ({
      weight: this.#get(`${prefix}${name}.weight`),
      bias: this.#tensors.get(`${prefix}${name}.bias`) ?? null,
    });
    return {
      query: linear("self_attn.q_proj"),
      key: linear("self_attn.k_proj"),
      value: linear("self_attn.v_proj"),
      output: linear("self_attn.o_proj"),
      gate: linear("mlp.gate_proj"),
      up: linear("mlp.up_proj"),
      down: linear("mlp.down_proj"),
      inputNorm: this.#get(`${prefix}input_layernorm.weight`),
      postNorm: this.#get(`${prefix}post_attention_layernorm.weight`),
    };
  }
}

/** Bytes of one element, for the types that the embedded server reads. */
export const readableDTypes: Readonly<Partial<Record<DType, number>>> = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
};

/** Values of a tensor. */
export function decodeTensor(tensor: Tensor): Float32Array {
  const values = new Float32Array(product(tensor.shape));
  decodeInto(values, tensor);
  return values;
}

function decodeInto(target: Float32Array, tensor: Tensor): void {
  const { dtype } = tensor;
  const size = readableDTypes[dtype];
  if (size === undefined) throw new Error(`Cannot load ${dtype} into a float32 parameter`);
  // A copy is aligned for typed arrays, which a piece of a bucket need not be.
  const bytes = tensor.bytes.byteOffset % size === 0 ? tensor.bytes : tensor.bytes.slice();
  const place = [bytes.buffer, bytes.byteOffset, bytes.byteLength / size] as const;
  if (dtype === "float32") target.set(new Float32Array(...place));
  else if (dtype === "float64") target.set(new Float64Array(...place));
  else if (dtype === "float16") float16ToFloat32(new Uint16Array(...place), target);
  else bfloat16ToFloat32(new Uint16Array(...place), target);
}

function product(shape: readonly number[]): number {
  return shape.reduce((total, n) => total * n, 1);
}
