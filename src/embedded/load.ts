/** A checkpoint folder as a model. */
import { openCheckpoint } from "../checkpoint/mod.ts";
import { CheckpointError } from "../errors.ts";
import { parseModelConfig } from "./model/config.ts";
import { Model } from "./model/model.ts";
import type { Tensor } from "./model/weights.ts";
import { readJson, readOptionalJson } from "./read_json.ts";

/** Reads configuration and weights of a folder; every weight of the model must be there. */
export async function loadModel(folder: string): Promise<Model> {
  const config = await readJson(`${folder}/config.json`);
  const generation = await readOptionalJson(`${folder}/generation_config.json`);
  const model = new Model(parseModelConfig(config, generation));
  const missing = new Set(model.weights.names);
  for await (const tensor of readTensors(folder)) {
    try {
      if (model.weights.load(tensor)) missing.delete(tensor.name);
    } catch (error) {
      throw new CheckpointError(`${folder}: ${(error as Error).message}`, { cause: error });
    }
  }
  const [first] = missing;
  if (first === undefined) return model;
  throw new CheckpointError(
    `${folder} lacks ${missing.size} of the model's weights, among them ${first}; config.json and ` +
      "the safetensors files do not belong together",
  );
}

/** The tensors of a folder, one after the other. */
export async function* readTensors(folder: string): AsyncGenerator<Tensor> {
  await using checkpoint = await openCheckpoint(folder);
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    yield { name, dtype, shape, bytes: await checkpoint.read(name) };
  }
}
