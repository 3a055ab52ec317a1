import {
  type DType,
  itemSizeBytes,
  type TensorInfo,
  tensorSizeBytes,
} from "../../checkpoint/dtype.ts";
import type { DeviceMemory } from "../../collective/group.ts";
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

/**
 * A tensor in memory of the GPU that this process sends from, such as one that native code of this
 * process allocated. Only the transports `nccl` and `cuda-ipc` take it; it never passes through
 * this process's own memory.
 */
export interface DeviceTensor {
  /** Where its elements lie, C-contiguous; writing them must be done when a sync begins. */
  readonly device: DeviceMemory;
  /** Sizes of the dimensions; empty for a scalar. */
  readonly shape: readonly number[];
  /** Element type, by torch's name. */
  readonly dtype: DType;
}

/** Whether a value is a tensor in memory of a GPU. */
export function isDeviceTensor(value: unknown): value is DeviceTensor {
  return typeof value === "object" && value !== null && "device" in value &&
    typeof value.device === "object" && value.device !== null && "address" in value.device &&
    typeof value.device.address === "bigint";
}

/** Name, type and shape of a tensor on a device, and where it lies. */
export function describeDeviceTensor(
  name: string,
  tensor: DeviceTensor,
): { info: TensorInfo; device: DeviceMemory } {
  const { dtype, shape, device } = tensor;
  if (dtype === undefined || !Array.isArray(shape)) {
    throw new ValidationError(`Weight "${name}" in device memory needs its "dtype" and "shape"`);
  }
  const info: TensorInfo = { name, dtype, shape: [...shape] };
  const expected = tensorSizeBytes(info);
  if (device.byteLength !== expected) {
    throw new ValidationError(
      `Weight "${name}": ${dtype} of shape [${shape}] takes ${expected} bytes, its device memory ` +
        `has ${device.byteLength}`,
    );
  }
  if (device.address % BigInt(itemSizeBytes(dtype)) !== 0n || device.address <= 0n) {
    throw new ValidationError(
      `Weight "${name}": ${device.address} is no address of ${dtype} elements on a device`,
    );
  }
  return { info, device: { address: device.address, byteLength: device.byteLength } };
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
