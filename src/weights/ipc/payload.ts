/**
 * The payload of `/update_weights_from_tensor` for tensors that lie in device memory of this
 * process: pickles of what PyTorch's `torch.multiprocessing` makes of a CUDA tensor, with the
 * memory's CUDA IPC handle. The server maps the memory and reads it; no byte is copied by the host.
 *
 * Sources: torch `multiprocessing/reductions.py` (`rebuild_cuda_tensor`), torch
 * `csrc/StorageSharing.cpp` (`THPStorage_newSharedCuda`), SGLang
 * `srt/weight_sync/tensor_bucket.py`. Written for SGLang 0.5.9 to 0.5.23.
 *
 * @module
 */
import { itemSizeBytes, type TensorInfo, tensorSizeBytes } from "../../checkpoint/dtype.ts";
import { ValidationError } from "../../errors.ts";
import { call, dict, global, object, pickle, type PickleValue, tuple } from "./pickle.ts";
import { toBase64 } from "../../internal/text_of_bytes.ts";

/** Device memory that another process on this host can map. */
export interface SharedDeviceMemory {
  /** `cudaIpcMemHandle_t`, 64 bytes, of a whole allocation. */
  readonly handle: Uint8Array;
  /** The device's UUID as PyTorch writes it, without `GPU-`. */
  readonly deviceUuid: string;
}

/** A tensor in shared device memory. */
export interface PlacedTensor extends TensorInfo {
  /** Where its bytes begin in the allocation. */
  readonly offset: number;
}

const IPC_HANDLE_BYTES = 64;

/**
 * PyTorch's sender counts the receivers of its memory in a file that the receiver decrements. Ours
 * does not: a receiver takes a missing file as "the sender is gone" and goes on. The memory must
 * therefore stay until the server has answered a request that synchronises its device.
 */
const NO_REFERENCE_COUNTER = new TextEncoder().encode("/sglang_rl_uncounted");

const metadataType = global("sglang.srt.weight_sync.tensor_bucket", "FlattenedTensorMetadata");

/**
 * The payload for `load_format: "flattened_bucket"`, in base64 as
 * `serialized_named_tensors` takes it, the same for every rank on the memory's host.
 *
 * @param tensors names, types, shapes and places; each place a multiple of its element's size
 * @param memory the allocation that holds them
 * @throws {ValidationError} A tensor is misplaced or the handle is none.
 */
export function flattenedPayload(
  tensors: readonly PlacedTensor[],
  memory: SharedDeviceMemory,
): string {
  checkMemory(memory);
  if (tensors.length === 0) throw new ValidationError("A bucket needs at least one tensor");
  const byteLength = Math.max(...tensors.map((tensor) => tensor.offset + tensorSizeBytes(tensor)));
  const flat: PlacedTensor = { name: "bucket", dtype: "uint8", shape: [byteLength], offset: 0 };
  tensors.forEach(checkPlace);
  return toBase64(pickle(bucketOf(tensorValue(flat, memory), tensors)));
}

/** A bucket as SGLang's `FlattenedTensorBucket` takes it: all tensors in one, and where each lies. */
export function bucketOf(flat: PickleValue, tensors: readonly PlacedTensor[]): PickleValue {
  const metadata = tensors.map((tensor) => {
    const size = tensorSizeBytes(tensor);
    return object(metadataType, {
      name: tensor.name,
      shape: sizeValue(tensor.shape),
      dtype: global("torch", tensor.dtype),
      start_idx: tensor.offset,
      end_idx: tensor.offset + size,
      numel: size,
    });
  });
  return dict({ flattened_tensor: flat, metadata });
}

/** The payload without a load format: a list of names with tensors. */
export function namedPayload(
  tensors: readonly PlacedTensor[],
  memory: SharedDeviceMemory,
): string {
  checkMemory(memory);
  tensors.forEach(checkPlace);
  const named = tensors.map((tensor) => tuple(tensor.name, tensorValue(tensor, memory)));
  return toBase64(pickle(named));
}

/** A CUDA tensor as `torch.multiprocessing.reductions.reduce_tensor` reduces it. */
function tensorValue(tensor: PlacedTensor, memory: SharedDeviceMemory): PickleValue {
  const { dtype, shape, offset } = tensor;
  return call(
    global("torch.multiprocessing.reductions", "rebuild_cuda_tensor"),
    global("torch", "Tensor"), // tensor_cls
    sizeValue(shape), // tensor_size
    tuple(...contiguousStrides(shape)), // tensor_stride
    0, // tensor_offset, in elements of the storage
    global("torch.storage", "TypedStorage"), // storage_cls
    global("torch", dtype), // dtype
    memory.deviceUuid, // storage_device, which SGLang translates to its own index
    memory.handle, // storage_handle
    tensorSizeBytes(tensor), // storage_size_bytes
    offset, // storage_offset_bytes
    false, // requires_grad
    NO_REFERENCE_COUNTER, // ref_counter_handle
    0, // ref_counter_offset
    new Uint8Array(0), // event_handle
    false, // event_sync_required: the sender has synchronised
  );
}

function sizeValue(shape: readonly number[]): PickleValue {
  return call(global("torch", "Size"), tuple(...shape));
}

function contiguousStrides(shape: readonly number[]): number[] {
  const strides: number[] = [];
  let stride = 1;
  for (const size of shape.toReversed()) {
    strides.unshift(stride);
    stride *= Math.max(1, size);
  }
  return strides;
}

function checkPlace({ name, dtype, offset }: PlacedTensor): void {
  if (Number.isInteger(offset) && offset >= 0 && offset % itemSizeBytes(dtype) === 0) return;
  throw new ValidationError(
    `"${name}" lies at byte ${offset}, which is no place for ${dtype}: it must be a multiple of ` +
      `${itemSizeBytes(dtype)}`,
  );
}

function checkMemory({ handle, deviceUuid }: SharedDeviceMemory): void {
  if (handle.byteLength !== IPC_HANDLE_BYTES) {
    throw new ValidationError(
      `A CUDA IPC handle has ${IPC_HANDLE_BYTES} bytes, not ${handle.byteLength}`,
    );
  }
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(deviceUuid)) {
    throw new ValidationError(
      `"${deviceUuid}" is no device UUID as PyTorch writes it, such as ` +
        `"0123abcd-0123-0123-0123-0123456789ab"`,
    );
  }
}
