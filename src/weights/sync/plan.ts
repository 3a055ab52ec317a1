import { itemSizeBytes, type TensorInfo, tensorSizeBytes } from "../../checkpoint/dtype.ts";
import { ValidationError } from "../../errors.ts";

/**
 * Default limit of a bucket: 512 MiB.
 *
 * A server allocates a receive buffer for every tensor of a request, so a bucket costs its size in
 * memory on every rank, and twice that here (one bucket is read while another is sent). A request
 * costs 10 to 40 ms besides its bytes; 512 MiB take at least 25 ms on the fastest links, so larger
 * buckets gain little.
 */
export const DEFAULT_BUCKET_BYTES: number = 512 * 1024 * 1024;

/** A tensor of a bucket: where it comes from and where its bytes lie. */
export interface PlannedTensor extends TensorInfo {
  /** Index of the tensor in its source. */
  readonly sourceIndex: number;
  /** First byte within the bucket. */
  readonly offset: number;
  /** Number of bytes. */
  readonly sizeBytes: number;
}

/** Tensors that travel together: names, types and shapes in wire order, and their bytes. */
export interface Bucket {
  /** The tensors, in the order in which their bytes follow each other. */
  readonly tensors: readonly TensorInfo[];
  /** Sum of the tensors' sizes. */
  readonly byteLength: number;
}

/** A bucket and how its bytes are laid out. */
export interface PlannedBucket extends Bucket {
  /** The tensors in wire order. */
  readonly tensors: readonly PlannedTensor[];
  /** Whether all bytes travel as one broadcast. */
  readonly flattened: boolean;
}

/** How to plan. */
export interface PlanOptions {
  /** Limit of a bucket in bytes; a larger tensor goes alone. */
  readonly bucketBytes: number;
  /** Send a bucket as one broadcast of all its bytes, instead of one for each tensor. */
  readonly flattened: boolean;
}

/**
 * Splits tensors into buckets of at most `bucketBytes`, in the order of the source, so that a
 * source is read once and forwards.
 *
 * Within a flattened bucket tensors are sorted by item size, largest first: SGLang from 0.5.22
 * refuses a tensor whose offset is not a multiple of its item size
 * (`srt/weight_sync/tensor_bucket.py`). A bucket of only empty tensors is never flattened, because
 * those servers refuse that too.
 *
 * @throws {ValidationError} `bucketBytes` is not a positive whole number.
 */
export function planBuckets(
  tensors: readonly (TensorInfo & { readonly sourceIndex: number })[],
  options: PlanOptions,
): PlannedBucket[] {
  const { bucketBytes, flattened } = options;
  if (!Number.isSafeInteger(bucketBytes) || bucketBytes < 1) {
    throw new ValidationError(
      `bucketBytes must be a positive whole number of bytes, got ${bucketBytes}`,
    );
  }
  const buckets: PlannedBucket[] = [];
  let open: Sized[] = [];
  let openBytes = 0;
  for (const tensor of tensors) {
    const sizeBytes = tensorSizeBytes(tensor);
    if (open.length > 0 && openBytes + sizeBytes > bucketBytes) {
      buckets.push(layOut(open, flattened));
      open = [];
      openBytes = 0;
    }
    open.push({ ...tensor, sizeBytes });
    openBytes += sizeBytes;
  }
  if (open.length > 0) buckets.push(layOut(open, flattened));
  return buckets;
}

type Sized = TensorInfo & { readonly sourceIndex: number; readonly sizeBytes: number };

function layOut(tensors: Sized[], wantFlattened: boolean): PlannedBucket {
  const total = tensors.reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  const flattened = wantFlattened && total > 0;
  const ordered = flattened
    ? tensors.toSorted((a, b) => itemSizeBytes(b.dtype) - itemSizeBytes(a.dtype))
    : tensors;
  let offset = 0;
  const planned = ordered.map((tensor) => {
    const at = offset;
    offset += tensor.sizeBytes;
    return { ...tensor, offset: at };
  });
  return { tensors: planned, byteLength: total, flattened };
}
