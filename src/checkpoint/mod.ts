/**
 * Safetensors checkpoints: element types and their conversions, a reader for files, folders and
 * sharded checkpoints that fills the caller's memory, and a writer.
 *
 * @module
 */
export {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBFloat16,
  float32ToFloat16,
} from "./convert.ts";
export {
  allDTypes,
  type DType,
  elementCount,
  fromSafetensorsName,
  isDType,
  itemSizeBytes,
  parseDType,
  type TensorInfo,
  tensorSizeBytes,
  toSafetensorsName,
} from "./dtype.ts";
export type { TensorPlace } from "./header.ts";
export type { CheckpointLimits } from "./locate.ts";
export {
  type Checkpoint,
  type CheckpointTensor,
  openCheckpoint,
  type OpenOptions,
  type ReadOptions,
} from "./reader.ts";
export { type TensorToWrite, type WriteOptions, writeSafetensors } from "./writer.ts";
