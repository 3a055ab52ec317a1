/** A checkpoint folder as a model. */
import { readJson, readOptionalJson } from "./read_json.ts";
import { readSafetensors } from "./read_safetensors.ts";
import { parseModelConfig } from "./model/config.ts";
import { Model } from "./model/model.ts";
import type { Tensor } from "./model/weights.ts";

/** Reads configuration and weights of a folder. */
export async function loadModel(folder: string): Promise<Model> {
  const config = await readJson(`${folder}/config.json`);
  const generation = await readOptionalJson(`${folder}/generation_config.json`);
  const model = new Model(parseModelConfig(config, generation));
  for await (const tensor of readTensors(folder)) model.weights.load(tensor);
  return model;
}

/** The tensors of a folder, one after the other. */
export function readTensors(folder: string): AsyncIterable<Tensor> {
  return readSafetensors(folder);
}
