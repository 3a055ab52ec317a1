/** One LoRA adapter as the forward pass uses it. */
import type { ModelConfig } from "../model/config.ts";
import { decodeTensor, type Tensor } from "../model/weights.ts";

/** Modules of a layer that adapters may change. */
export const adaptedModules = [
  "q_proj",
  "k_proj",
  "v_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "down_proj",
] as const;

/** One of {@linkcode adaptedModules}. */
export type AdaptedModule = (typeof adaptedModules)[number];

/** `A` is `(rank, inputs)`, `B` is `(outputs, rank)`. */
export interface LoraPair {
  readonly a: Float32Array;
  readonly b: Float32Array;
}

/** Matrices by layer and module. */
export interface LoraMatrices {
  readonly id: string;
  readonly rank: number;
  /** What the product counts. */
  readonly scaling: number;
  readonly layers: readonly ReadonlyMap<AdaptedModule, LoraPair>[];
  /** Why the real server ends when it uses this for the first time. */
  readonly deadly: string | undefined;
}

/** What a load refuses; the words are SGLang's. */
export class RefusedAdapter extends Error {}

const GROUP: Readonly<Record<string, string>> = {
  q_proj: "qkv_proj",
  k_proj: "qkv_proj",
  v_proj: "qkv_proj",
  gate_proj: "gate_up_proj",
  up_proj: "gate_up_proj",
};

/** The name under which SGLang computes a module. */
export function groupOf(module: string): string {
  return GROUP[module] ?? module;
}

/** Reads configuration and tensors; throws {@linkcode RefusedAdapter} where the real server answers 400. */
export function readLora(
  id: string,
  config: Readonly<Record<string, unknown>>,
  tensors: readonly Tensor[],
  model: ModelConfig,
): LoraMatrices {
  const rank = Number(config.r);
  const layers = Array.from({ length: model.layers }, () => new Map<string, Map<string, Tensor>>());
  for (const tensor of tensors) {
    const layer = /layers\.(\d+)\./.exec(tensor.name);
    if (layer === null) continue;
    const found = layers[Number(layer[1])];
    if (found === undefined) throw new RefusedAdapter(`index ${layer[1]} is out of range`);
    const module = /(?<![a-z_])([a-z_]+)\.lora_[AB]/.exec(tensor.name)?.[1] ?? tensor.name;
    const pair = found.get(module) ?? new Map<string, Tensor>();
    pair.set(tensor.name.includes("lora_A") ? "a" : "b", tensor);
    found.set(module, pair);
  }
  let deadly: string | undefined;
  const sizes = sizesOf(model);
  const read = layers.map((modules, index) => {
    const pairs = new Map<AdaptedModule, LoraPair>();
    if (modules.has("q_proj") && !modules.has("v_proj")) {
      throw new RefusedAdapter(
        `'base_model.model.model.layers.${index}.self_attn.v_proj.lora_A.weight'`,
      );
    }
    for (const [module, halves] of modules) {
      const size = sizes[module as AdaptedModule];
      const isAlone = (module === "up_proj" && !modules.has("gate_proj")) ||
        ((module === "k_proj" || module === "v_proj") && !modules.has("q_proj"));
      if (size === undefined || isAlone) {
        deadly ??= `Cannot find target module name for ${module}`;
        continue;
      }
      const a = halves.get("a");
      const b = halves.get("b");
      if (!isShape(a, [rank, size.inputs]) || !isShape(b, [size.outputs, rank])) {
        deadly ??= `LoRA buffer shape does not match weight shape of ${module}`;
        continue;
      }
      pairs.set(module as AdaptedModule, { a: decodeTensor(a!), b: decodeTensor(b!) });
    }
    return pairs;
  });
  return { id, rank, scaling: Number(config.lora_alpha) / rank, layers: read, deadly };
}

function isShape(tensor: Tensor | undefined, shape: readonly number[]): boolean {
  // A matrix that is not there is zeros.
  return tensor !== undefined && tensor.shape.join() === shape.join();
}

/** Inputs and outputs of each module. */
export function sizesOf(
  { hiddenSize, intermediateSize, heads, kvHeads, headDim }: ModelConfig,
): Record<AdaptedModule, { readonly inputs: number; readonly outputs: number }> {
  const keyValue = { inputs: hiddenSize, outputs: kvHeads * headDim };
  const up = { inputs: hiddenSize, outputs: intermediateSize };
  return {
    q_proj: { inputs: hiddenSize, outputs: heads * headDim },
    k_proj: keyValue,
    v_proj: keyValue,
    o_proj: { inputs: heads * headDim, outputs: hiddenSize },
    gate_proj: up,
    up_proj: up,
    down_proj: { inputs: intermediateSize, outputs: hiddenSize },
  };
}
