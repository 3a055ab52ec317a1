import type { TensorInfo } from "../../checkpoint/dtype.ts";
import type { DeviceMemory } from "../../collective/group.ts";
import { UnsupportedError } from "../../errors.ts";

/** Where new weights come from; one source serves any number of syncs. */
export interface WeightSource {
  /** What it is, for messages: `"state dict of 27 tensors"`. */
  readonly label: string;
  /** Folder of safetensors that holds the same weights, when there is one. */
  readonly folder?: string | undefined;
  /**
   * What the files are that it reads: the same text as long as they are the same. Only for a source
   * that can be read again later.
   */
  fingerprint?(options?: { signal?: AbortSignal | undefined }): Promise<string>;
  /** Opens it for one sync: names, types and shapes first, bytes when they are asked for. */
  open(options?: { signal?: AbortSignal | undefined }): Promise<OpenWeightSource>;
}

/** A source that is open for one sync. */
export interface OpenWeightSource extends AsyncDisposable {
  /** Every tensor, in the order in which they are read. */
  readonly tensors: readonly TensorInfo[];
  /** The bytes of a tensor when they lie in memory already, else `undefined`. */
  view(index: number): Uint8Array | undefined;
  /**
   * Where a tensor lies in memory of a GPU, when it does, one that is in shards as its pieces in
   * order; such a tensor cannot be read.
   */
  device?(index: number): DeviceMemory | readonly DeviceMemory[] | undefined;
  /** Whether another process sends the bytes, so that nobody looks at their values on the way. */
  readonly isSentElsewhere?: boolean | undefined;
  /**
   * The same tensors before a cast from float32 to bfloat16, for those who cast by themselves.
   * Tensors whose type is the same in both are not cast.
   */
  readonly wide?: OpenWeightSource | undefined;
  /**
   * What a tensor is made of, where a device can make it by itself: one half of a matrix of another
   * source as FP8 in blocks. Who cannot do that reads it as any other.
   */
  float8?(index: number): Float8Origin | undefined;
  /** How many reads may be under way at once. Default 1: each begins when the last is done. */
  readonly readsAtOnce?: number | undefined;
  /**
   * Writes the bytes of a tensor, C-contiguous and little-endian, into `target`, which has exactly
   * their size. Called with growing indexes, each at most once.
   */
  read(index: number, target: Uint8Array, options: { signal: AbortSignal }): Promise<void>;
  /**
   * Called after the last byte was read: throws when what was read need not be of one piece, because
   * a file was written to, replaced or removed meanwhile.
   */
  confirm?(options: { signal: AbortSignal }): Promise<void>;
}

/** A matrix of which FP8 values or their scales are made. */
export interface Float8Origin {
  /** The source that has it, bfloat16 or float32. */
  readonly source: OpenWeightSource;
  /** Its index there. */
  readonly index: number;
  /** Which half is made. */
  readonly part: "values" | "scales";
}

/** The first tensor that lies in memory of a GPU, if any does. */
export function firstOnDevice(open: OpenWeightSource): TensorInfo | undefined {
  return open.tensors.find((_, i) => {
    const made = open.float8?.(i);
    const ofIt = made && made.source.device?.(made.index);
    return (ofIt ?? open.device?.(i) ?? open.wide?.device?.(i)) !== undefined;
  });
}

/** Whether a value is a {@linkcode WeightSource}. */
export function isWeightSource(value: unknown): value is WeightSource {
  return typeof value === "object" && value !== null && "open" in value && "label" in value &&
    typeof value.open === "function";
}

/** Refuses weights in memory of a GPU for a transport that reads them in this process. */
export function refuseDeviceMemory(open: OpenWeightSource, transport: string): void {
  const tensor = firstOnDevice(open);
  if (tensor === undefined) return;
  throw new UnsupportedError(
    `Weight "${tensor.name}" lies in device memory, which ${transport} cannot send. Use transport ` +
      `"nccl" or "cuda-ipc", or copy the weights to this process's memory`,
  );
}

/** Refuses float8 tensors that would travel alone, which gloo has no type for. */
export function refuseFloat8(open: OpenWeightSource): void {
  const float8 = open.tensors.find(({ dtype }) => dtype.startsWith("float8"));
  if (float8 === undefined) return;
  throw new UnsupportedError(
    `gloo cannot broadcast "${float8.name}" (${float8.dtype}) alone: leave flattened on, which ` +
      "sends bytes",
  );
}
