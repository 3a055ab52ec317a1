import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { itemSizeBytes } from "../../../src/checkpoint/dtype.ts";
import type { StateDict } from "../../../src/weights/source/mod.ts";

/** The float32 weights of a checkpoint in memory. */
export async function readWeights(folder: string): Promise<StateDict> {
  await using open = await openCheckpoint(folder);
  const weights: Record<string, { data: Float32Array; shape: readonly number[] }> = {};
  for (const [name, { shape }] of open.tensors) {
    const count = shape.reduce((product, size) => product * size, 1);
    const data = new Float32Array(count);
    await open.readInto(name, new Uint8Array(data.buffer, 0, count * itemSizeBytes("float32")));
    weights[name] = { data, shape };
  }
  return weights as StateDict;
}
