import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import type { StateDict } from "../../../src/weights/source/mod.ts";

/**
 * Weights with which the tiny model says the token `id` and nothing else: all embeddings are alike,
 * the layers add nothing, and only one row of the output head is not zero. What a server said then
 * tells which weights it had.
 */
export async function weightsThatSay(id: number, folder: string): Promise<StateDict> {
  await using checkpoint = await openCheckpoint(folder);
  const weights: Record<
    string,
    { dtype: "float32"; shape: readonly number[]; data: Float32Array }
  > = {};
  for (const { name, shape } of checkpoint.tensors.values()) {
    const data = new Float32Array(shape.reduce((size, dimension) => size * dimension, 1));
    if (name.includes("embed") || name.includes("norm")) data.fill(1);
    if (name.startsWith("lm_head")) data.fill(1, id * shape[1]!, (id + 1) * shape[1]!);
    weights[name] = { dtype: "float32", shape, data };
  }
  return weights;
}
