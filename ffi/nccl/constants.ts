import { ValidationError } from "../../src/errors.ts";
import type { DType } from "../../src/checkpoint/dtype.ts";

/** Size of `ncclUniqueId` in bytes. */
export const UNIQUE_ID_BYTES = 128;

/** `ncclResult_t`. */
export const NcclResult = {
  success: 0,
  unhandledCudaError: 1,
  systemError: 2,
  internalError: 3,
  invalidArgument: 4,
  invalidUsage: 5,
  remoteError: 6,
  inProgress: 7,
} as const;

/** `ncclDataType_t`. */
export const NcclDataType = {
  int8: 0,
  uint8: 1,
  int32: 2,
  uint32: 3,
  int64: 4,
  uint64: 5,
  float16: 6,
  float32: 7,
  float64: 8,
  bfloat16: 9,
  float8_e4m3: 10,
  float8_e5m2: 11,
} as const;

/** One of NCCL's element types. */
export type NcclDataType = (typeof NcclDataType)[keyof typeof NcclDataType];

/** `ncclRedOp_t`. */
export const NcclReduction = { sum: 0, product: 1, max: 2, min: 3, average: 4 } as const;

/** One of NCCL's reductions. */
export type NcclReduction = (typeof NcclReduction)[keyof typeof NcclReduction];

/**
 * How PyTorch hands each dtype to NCCL in a broadcast (`ProcessGroupNCCL.cpp`, `ncclDataType`):
 * bool goes as uint8, float8 types as float8 (a broadcast only moves the bits); int16 has no NCCL
 * type, PyTorch refuses it, so it is sent within a `uint8` bucket only.
 */
const wireTypes: Partial<Record<DType, { type: NcclDataType; itemBytes: number }>> = {
  float64: { type: NcclDataType.float64, itemBytes: 8 },
  float32: { type: NcclDataType.float32, itemBytes: 4 },
  float16: { type: NcclDataType.float16, itemBytes: 2 },
  bfloat16: { type: NcclDataType.bfloat16, itemBytes: 2 },
  float8_e4m3fn: { type: NcclDataType.uint8, itemBytes: 1 },
  float8_e5m2: { type: NcclDataType.uint8, itemBytes: 1 },
  int64: { type: NcclDataType.int64, itemBytes: 8 },
  int32: { type: NcclDataType.int32, itemBytes: 4 },
  int8: { type: NcclDataType.int8, itemBytes: 1 },
  uint8: { type: NcclDataType.uint8, itemBytes: 1 },
  bool: { type: NcclDataType.uint8, itemBytes: 1 },
};

/** NCCL's type and element count of `byteLength` bytes of `dtype`. */
export function wireTypeOf(
  dtype: DType,
  byteLength: number,
): { readonly type: NcclDataType; readonly count: number } {
  const wire = wireTypes[dtype];
  if (wire === undefined) {
    throw new ValidationError(
      `NCCL cannot broadcast ${dtype} tensors by themselves; send them in a flattened bucket`,
    );
  }
  if (byteLength % wire.itemBytes !== 0) {
    throw new ValidationError(
      `${byteLength} bytes are no whole number of ${dtype} elements of ${wire.itemBytes} bytes`,
    );
  }
  return { type: wire.type, count: byteLength / wire.itemBytes };
}

/** What is staged at a time: one is sent, one is queued behind it, and one is brought together. */
export const STAGING_SLOTS = 3;
