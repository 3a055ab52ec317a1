/**
 * Where new weights come from: a safetensors checkpoint, tensors in memory or on a device, a
 * stream of them.
 *
 * @module
 */
export { float8Blocks, type Float8Options } from "./float8.ts";
export type { ModelInput, StatefulModel } from "./input.ts";
export { type NamedWeight, type WeightIterator, weightIterator } from "./iterator.ts";
export { safetensors } from "./safetensors.ts";
export type { Float8Origin, OpenWeightSource, WeightSource } from "./source.ts";
export { type StateDict, stateDict, type TensorDict, tensorDict } from "./state_dict.ts";
export type { DeviceTensor, WeightTensor } from "./tensor.ts";
