import { join } from "node:path";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import type { StateDict } from "../../../src/weights/mod.ts";

let root: string | undefined;

/** Folder of a tiny checkpoint; made once, gone after the file's tests. */
export async function tinyFolder(): Promise<string> {
  if (root === undefined) {
    root = await Deno.makeTempDir({ prefix: "sglang-rl-collector-" });
    await makeTinyCheckpoint(join(root, "tiny"), { seed: 0, dtype: "float32" });
  }
  return join(root, "tiny");
}

/** A folder for the files of a test, gone after the file's tests. */
export async function scratchFolder(): Promise<string> {
  await tinyFolder();
  return root!;
}

Deno.test.afterAll(async () => {
  if (root !== undefined) await Deno.remove(root, { recursive: true });
  root = undefined;
});

/**
 * Weights with which the tiny model says the token `id` and nothing else: all embeddings are alike,
 * the layers add nothing, and only one row of the output head is not zero. What a server said then
 * tells which weights it had.
 */
export async function weightsThatSay(id: number): Promise<StateDict> {
  await using checkpoint = await openCheckpoint(await tinyFolder());
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
