import { READS_AT_ONCE } from "../../checkpoint/file_pool.ts";
import { type CheckpointLimits, locateFiles } from "../../checkpoint/locate.ts";
import { openCheckpoint } from "../../checkpoint/reader.ts";
import { pathOf } from "../../internal/path_of.ts";
import { stampOf } from "../../internal/regular_file.ts";
import type { OpenWeightSource, WeightSource } from "./source.ts";

/**
 * Weights from a safetensors file, a folder, or the index of a sharded checkpoint. Headers are read
 * first; tensors go from the file straight into the memory they are sent from, so a checkpoint may
 * be larger than memory. The files are opened again for every sync, and looked at again after the last
 * byte: one that changed meanwhile fails the sync.
 *
 * Needs `--allow-read` for the path.
 *
 * @param limits How much is read before any tensor is, for folders that somebody else made.
 * @throws {CheckpointError} When a sync opens it: the files are damaged or incomplete.
 * @throws {LimitError} When a sync opens it: something is larger than its limit.
 *
 * @example
 * ```ts
 * import { safetensors } from "@sglang-rl/sglang-rl";
 *
 * const source = safetensors("checkpoints/step-20");
 * ```
 */
export function safetensors(place: string, limits: CheckpointLimits = {}): WeightSource {
  const path = pathOf(place, "a checkpoint");
  return {
    label: `checkpoint ${path}`,
    folder: path.endsWith(".safetensors") || path.endsWith(".json") ? undefined : path,
    async fingerprint({ signal } = {}): Promise<string> {
      const { files } = await locateFiles(path, { ...limits, signal });
      signal?.throwIfAborted();
      const stamps = await Promise.all(files.map(stampOf));
      return JSON.stringify(files.map((file, i) => [file, stamps[i]]));
    },
    async open({ signal } = {}): Promise<OpenWeightSource> {
      const checkpoint = await openCheckpoint(path, { ...limits, signal });
      const places = [...checkpoint.tensors.values()];
      return {
        tensors: places.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
        view: () => undefined,
        readsAtOnce: READS_AT_ONCE,
        read: (index, target, options) =>
          checkpoint.readInto(places[index]!.name, target, { signal: options.signal }),
        confirm: (options) => checkpoint.confirmUnchanged(options),
        [Symbol.asyncDispose]: () => checkpoint[Symbol.asyncDispose](),
      };
    },
  };
}
