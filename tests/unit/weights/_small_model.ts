import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import type { GivenOptions, WeightSyncOptions } from "../../../src/weights/options.ts";
import type { StateDict } from "../../../src/weights/source/mod.ts";
import { recordingGroups } from "../../_support/weights_stand_in.ts";

/** Weights of a small model. */
export const state = {
  "0.weight": { data: Float32Array.of(1, 2, 3, 4, 5, 6), shape: [3, 2] },
  "0.bias": { data: Float32Array.of(7, 8, 9), shape: [3] },
  "1.weight": { data: Float32Array.of(10, 11, 12), shape: [1, 3] },
} as const satisfies StateDict;
/** What is announced of them. */
export const metadata = {
  "0.weight": { dtype: "float32", shape: [3, 2] },
  "0.bias": { dtype: "float32", shape: [3] },
  "1.weight": { dtype: "float32", shape: [1, 3] },
} as const;

/** A scheme for one server, whose groups only record. */
export function schemeFor(url: string, options: GivenOptions = {}) {
  return new SGLangWeightSyncScheme({
    serverUrl: url,
    env: () => undefined,
    openGroup: recordingGroups().openGroup,
    ...options,
  } as WeightSyncOptions);
}
