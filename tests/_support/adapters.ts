/** LoRA adapters for tests, by a seed. */
import { parseModelConfig } from "../../src/embedded/model/config.ts";
import {
  type AdaptedModule,
  adaptedModules,
  sizesOf,
} from "../../src/embedded/adapters/adapter.ts";
import type { AdapterTensors, PeftConfig } from "../../src/adapters/mod.ts";
import { writeSafetensors } from "../../src/checkpoint/mod.ts";
import { seeded } from "./seeded.ts";

/** How an adapter for tests is made. */
export interface TestAdapterOptions {
  readonly seed: number;
  /** Default 4. */
  readonly rank?: number;
  /** Default all seven. */
  readonly modules?: readonly AdaptedModule[];
  /** Further fields of the configuration. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** A float32 adapter with large matrices, so that it changes what is sampled. */
export async function testAdapter(
  model: string,
  options: TestAdapterOptions,
): Promise<
  AdapterTensors & { readonly tensors: Record<string, { data: Float32Array; shape: number[] }> }
> {
  const { seed, rank = 4, modules = adaptedModules } = options;
  const config = parseModelConfig(JSON.parse(await Deno.readTextFile(`${model}/config.json`)));
  const sizes = sizesOf(config);
  const random = seeded(seed);
  const matrix = (rows: number, columns: number) => ({
    data: Float32Array.from({ length: rows * columns }, () => random() - 0.5),
    shape: [rows, columns],
  });
  const tensors: Record<string, { data: Float32Array; shape: number[] }> = {};
  for (let layer = 0; layer < config.layers; layer++) {
    for (const module of modules) {
      const part = /^[qkvo]_/.test(module) ? "self_attn" : "mlp";
      const path = `base_model.model.model.layers.${layer}.${part}.${module}`;
      const { inputs, outputs } = sizes[module];
      tensors[`${path}.lora_A.weight`] = matrix(rank, inputs);
      tensors[`${path}.lora_B.weight`] = matrix(outputs, rank);
    }
  }
  const peft: PeftConfig = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    r: rank,
    lora_alpha: 2 * rank,
    lora_dropout: 0,
    bias: "none",
    target_modules: [...modules],
    ...options.config,
  };
  return { config: peft, tensors };
}

/** Writes an adapter as PEFT does. */
export async function writePeftFolder(
  folder: string,
  { config, tensors }: Awaited<ReturnType<typeof testAdapter>>,
): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/adapter_config.json`, JSON.stringify(config));
  await writeSafetensors(
    `${folder}/adapter_model.safetensors`,
    Object.entries(tensors).map(([name, { data, shape }]) => ({
      name,
      dtype: "float32" as const,
      shape,
      data,
    })),
  );
}

/** What embedded and real servers for these adapters are started with. */
export const testLora = { maxRank: 8, targetModules: [...adaptedModules] } as const;
