import { openCheckpoint } from "../checkpoint/mod.ts";
import type { DType } from "../checkpoint/dtype.ts";
import { CheckpointError, PermissionError } from "../errors.ts";

/**
 * Element type and shape of every weight of a checkpoint folder, from the headers alone.
 *
 * Needs `--allow-read=<folder>`.
 */
export async function readModelMetadata(
  folder: string,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<Map<string, { dtype: DType; shape: readonly number[] }>> {
  try {
    await using checkpoint = await openCheckpoint(folder, { signal: options.signal });
    return new Map(
      [...checkpoint.tensors].map(([name, { dtype, shape }]) => [name, { dtype, shape }]),
    );
  } catch (error) {
    if (!(error instanceof CheckpointError) || error instanceof PermissionError) throw error;
    throw new CheckpointError(
      `The weights of the served model cannot be read here: ${error.message}. Give the folder of ` +
        "its safetensors files on this machine as modelFolder",
      { cause: error },
    );
  }
}
