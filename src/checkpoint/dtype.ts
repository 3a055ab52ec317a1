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
