import { type DType, type TensorInfo, tensorSizeBytes } from "../../checkpoint/dtype.ts";
import { ValidationError } from "../../errors.ts";

/** A tensor in memory. */
export interface WeightTensor {
  /**
   * Elements, C-contiguous, or their raw bytes. Its kind tells the element type unless `dtype`
   * does; bfloat16 and float8 need `dtype`.
   */
  readonly data: ArrayBufferView;
  /** Sizes of the dimensions; empty for a scalar. */
  readonly shape: readonly number[];
  /** Element type, by torch's name. */
  readonly dtype?: DType | undefined;
}

/** Whether a value is a tensor rather than a folder of tensors. */
export function isWeightTensor(value: unknown): value is WeightTensor {
  return typeof value === "object" && value !== null &&
    "data" in value && ArrayBuffer.isView(value.data) &&
    "shape" in value && Array.isArray(value.shape);
}

/** Name, type and shape of a tensor, and its bytes; the data must be as long as they say. */
export function describeTensor(
  name: string,
  tensor: WeightTensor,
): { info: TensorInfo; bytes: Uint8Array } {
  const { data, shape } = tensor;
  const dtype = tensor.dtype ?? dtypeOf(data);
  if (dtype === undefined) {
    throw new ValidationError(
      `Weight "${name}": a ${data.constructor.name} does not tell the element type; set its "dtype"`,
    );
  }
  const info: TensorInfo = { name, dtype, shape: [...shape] };
  const expected = tensorSizeBytes(info);
  if (data.byteLength !== expected) {
    throw new ValidationError(
      `Weight "${name}": ${dtype} of shape [${shape}] takes ${expected} bytes, its data has ` +
        `${data.byteLength}`,
    );
  }
  return { info, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

function dtypeOf(data: ArrayBufferView): DType | undefined {
  if (data instanceof Float32Array) return "float32";
  if (data instanceof Float64Array) return "float64";
  if (data instanceof Float16Array) return "float16";
  if (data instanceof BigInt64Array) return "int64";
  if (data instanceof Int32Array) return "int32";
  if (data instanceof Int16Array) return "int16";
  if (data instanceof Int8Array) return "int8";
  if (data instanceof Uint8Array) return "uint8";
  return undefined;
}
