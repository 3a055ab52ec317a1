import { CheckpointError, ValidationError } from "../errors.ts";
import { nearestName } from "../internal/suggest.ts";

/** Element types of tensors, by torch's names as SGLang takes them. */
export type DType =
  | "float64"
  | "float32"
  | "float16"
  | "bfloat16"
  | "float8_e4m3fn"
  | "float8_e5m2"
  | "int64"
  | "int32"
  | "int16"
  | "int8"
  | "uint8"
  | "bool";

/** Name, element type and shape of a tensor. */
export interface TensorInfo {
  /** Full name as in a Hugging Face checkpoint. */
  readonly name: string;
  /** Element type. */
  readonly dtype: DType;
  /** Sizes of the dimensions; empty for a scalar. */
  readonly shape: readonly number[];
}

/**
 * What is known of each element type.
 *
 * Source of the safetensors names and sizes: safetensors `tensor.rs` (`Dtype`).
 */
const dtypes: Readonly<Record<DType, { readonly bytes: number; readonly safetensors: string }>> = {
  float64: { bytes: 8, safetensors: "F64" },
  float32: { bytes: 4, safetensors: "F32" },
  float16: { bytes: 2, safetensors: "F16" },
  bfloat16: { bytes: 2, safetensors: "BF16" },
  float8_e4m3fn: { bytes: 1, safetensors: "F8_E4M3" },
  float8_e5m2: { bytes: 1, safetensors: "F8_E5M2" },
  int64: { bytes: 8, safetensors: "I64" },
  int32: { bytes: 4, safetensors: "I32" },
  int16: { bytes: 2, safetensors: "I16" },
  int8: { bytes: 1, safetensors: "I8" },
  uint8: { bytes: 1, safetensors: "U8" },
  bool: { bytes: 1, safetensors: "BOOL" },
};

/** All element types. */
export const allDTypes: readonly DType[] = Object.keys(dtypes) as DType[];

const bySafetensorsName = new Map(allDTypes.map((dtype) => [dtypes[dtype].safetensors, dtype]));

/** Bytes of one element. */
export function itemSizeBytes(dtype: DType): number {
  return dtypes[dtype].bytes;
}

/** Whether `name` is one of torch's names that are supported. */
export function isDType(name: string): name is DType {
  return Object.hasOwn(dtypes, name);
}

/**
 * The element type of one of torch's names, with or without `"torch."` before it.
 *
 * @throws {ValidationError} With the nearest known name when it is unknown.
 */
export function parseDType(name: string): DType {
  const bare = name.startsWith("torch.") ? name.slice("torch.".length) : name;
  if (isDType(bare)) return bare;
  const near = nearestName(bare, allDTypes);
  throw new ValidationError(
    `Unknown element type "${name}"${near === undefined ? "" : `; did you mean "${near}"?`} ` +
      `Known types: ${allDTypes.join(", ")}`,
  );
}

/** What safetensors calls an element type, for example `BF16`. */
export function toSafetensorsName(dtype: DType): string {
  return dtypes[dtype].safetensors;
}

/**
 * The element type that safetensors calls `name`.
 *
 * @throws {CheckpointError} When unsupported.
 */
export function fromSafetensorsName(name: string): DType {
  const dtype = bySafetensorsName.get(name);
  if (dtype !== undefined) return dtype;
  throw new CheckpointError(
    `Unsupported element type "${name}"; supported are ${[...bySafetensorsName.keys()].join(", ")}`,
  );
}

/** Number of elements of a shape: the product of its sizes, 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new ValidationError(`Shape [${shapeText(shape)}] has a size that is no whole number`);
    }
    count *= size;
  }
  if (Number.isSafeInteger(count)) return count;
  throw new ValidationError(`Shape [${shapeText(shape)}] has too many elements`);
}

/** Bytes of a tensor without gaps. */
export function tensorSizeBytes(tensor: Pick<TensorInfo, "dtype" | "shape">): number {
  const sizeBytes = elementCount(tensor.shape) * itemSizeBytes(tensor.dtype);
  if (Number.isSafeInteger(sizeBytes)) return sizeBytes;
  throw new ValidationError(`Shape [${tensor.shape.join(", ")}] has too many bytes`);
}

/** The sizes of a shape for a message, however many there are. */
function shapeText(shape: readonly number[]): string {
  const shown = shape.slice(0, 16).join(", ");
  return shape.length > 16 ? `${shown}, … ${shape.length} dimensions` : shown;
}
