/**
 * Tensors as a pickle that holds their bytes, for servers that share no memory with this process:
 * what Python writes of a CPU tensor, whose storage is a file of `torch.save` in its old format.
 *
 * Sources: torch `torch/storage.py` (`_load_from_bytes`), torch `torch/serialization.py`
 * (`_legacy_save`), torch `torch/_utils.py` (`_rebuild_tensor_v2`), SGLang
 * `srt/weight_sync/tensor_bucket.py`. SGLang reads it with a list of names that it allows
 * (`srt/utils/common.py`, `SafeUnpickler`); these are on the lists of 0.5.16 and 0.5.23.
 *
 * @module
 */
import { type TensorInfo, tensorSizeBytes } from "../../checkpoint/dtype.ts";
import { ValidationError } from "../../errors.ts";
import { bucketOf } from "./payload.ts";
import { call, dict, global, persistent, pickle, tuple } from "./pickle.ts";

/** A tensor with its bytes, C-contiguous and little-endian. */
export interface TensorBytes extends TensorInfo {
  /** Its values. */
  readonly bytes: Uint8Array;
}

/** Every element type fits at a multiple of this. */
const ALIGNMENT = 16;

/**
 * The payload for `load_format: "flattened_bucket"`: all tensors as one of bytes, and where each lies
 * in it.
 *
 * @throws {ValidationError} There are none, or one's bytes are not as many as its shape says.
 */
export function flattenedByValue(tensors: readonly TensorBytes[]): Uint8Array<ArrayBuffer> {
  if (tensors.length === 0) throw new ValidationError("A bucket needs at least one tensor");
  let byteLength = 0;
  const placed = tensors.map((tensor) => {
    checkBytes(tensor);
    const offset = byteLength;
    byteLength = Math.ceil((offset + tensor.bytes.byteLength) / ALIGNMENT) * ALIGNMENT;
    return { ...tensor, offset };
  });
  const storage = storageFile(byteLength, (into) => {
    for (const { bytes, offset } of placed) into.set(bytes, offset);
  });
  const flat = call(
    global("torch._utils", "_rebuild_tensor_v2"),
    call(global("torch.storage", "_load_from_bytes"), storage),
    0, // storage_offset
    tuple(byteLength), // size
    tuple(1), // stride
    false, // requires_grad
    call(global("collections", "OrderedDict")), // backward_hooks
  );
  return pickle(bucketOf(flat, placed));
}

/** `torch.serialization.MAGIC_NUMBER` and `PROTOCOL_VERSION`. */
const MAGIC_NUMBER = 0x1950a86a20f9469cfc6cn;
const FORMAT_VERSION = 1001;

/** Bytes as torch's old format saves a storage: five pickles, the length, the bytes. */
function storageFile(
  byteLength: number,
  fill: (into: Uint8Array) => void,
): Uint8Array<ArrayBuffer> {
  const key = "0";
  const machine = dict({
    protocol_version: FORMAT_VERSION,
    little_endian: true,
    type_sizes: dict({ short: 2, int: 4, long: 4 }),
  });
  const storage = persistent(
    tuple("storage", global("torch", "ByteStorage"), key, "cpu", byteLength, null),
  );
  const head = [MAGIC_NUMBER, FORMAT_VERSION, machine, storage, [key]].map((part) =>
    pickle(part, 2)
  );
  const headLength = head.reduce((total, part) => total + part.byteLength, 0);
  const file = new Uint8Array(headLength + 8 + byteLength);
  let at = 0;
  for (const part of head) {
    file.set(part, at);
    at += part.byteLength;
  }
  new DataView(file.buffer).setBigUint64(at, BigInt(byteLength), true);
  fill(file.subarray(at + 8));
  return file;
}

function checkBytes({ bytes, ...tensor }: TensorBytes): void {
  const { name, dtype, shape } = tensor;
  const wanted = tensorSizeBytes(tensor);
  if (bytes.byteLength === wanted) return;
  throw new ValidationError(
    `"${name}" is ${dtype} of shape [${shape.join(", ")}], which takes ${wanted} bytes, and has ` +
      `${bytes.byteLength}`,
  );
}
