import { tensorSizeBytes } from "../../checkpoint/dtype.ts";
import type { GatheredPart, StagePiece } from "../../collective/group.ts";
import { readAll, type TensorRead } from "../source/read_all.ts";
import type { OpenWeightSource } from "../source/source.ts";
import type { PlannedBucket } from "../sync/plan.ts";
import type { StagingMemory } from "./staging.ts";

/**
 * Finds the pieces of buckets for a transport that brings them together on a device by itself.
 * Tensors in this process's memory or on the device are pieces where they lie; others are read into
 * two buffers in turn. Tensors that a cast makes smaller are given before the cast.
 */
export class GatheringRing {
  readonly #source: OpenWeightSource;
  readonly #memory: StagingMemory;
  readonly #mostReadBytes: number;
  #turn = 0;

  /** Makes a ring over an open source, for just these buckets. */
  constructor(
    source: OpenWeightSource,
    memory: StagingMemory,
    buckets: readonly PlannedBucket[],
  ) {
    this.#source = source;
    this.#memory = memory;
    this.#mostReadBytes = buckets.reduce((most, one) => Math.max(most, this.#readBytes(one)), 0);
  }

  /** The broadcasts of a bucket in wire order. They stay valid until the next call but one. */
  async gather(bucket: PlannedBucket, signal: AbortSignal): Promise<GatheredPart[]> {
    this.#turn = 1 - this.#turn;
    const reads: TensorRead[] = [];
    const buffer = this.#readBytes(bucket) > 0
      ? this.#memory.buffer(this.#turn, this.#mostReadBytes)
      : new Uint8Array(0);
    let used = 0;
    const pieces = bucket.tensors.map(({ sourceIndex }): readonly StagePiece[] => {
      const place = this.#placeOf(sourceIndex);
      if (place.pieces !== undefined) return place.pieces;
      const target = buffer.subarray(used, used += place.sizeBytes);
      reads.push({ source: place.source, index: sourceIndex, target });
      return [{ bytes: target, castFrom: place.castFrom }];
    });
    await readAll(reads, { atOnce: this.#source.readsAtOnce, signal });
    return bucket.flattened
      ? [{ pieces: joinNeighbours(pieces.flat()), dtype: "uint8" }]
      : bucket.tensors.map(({ dtype }, i) => ({ pieces: pieces[i]!, dtype }));
  }

  /** Where a tensor's bytes are taken from: pieces that are there, or a source to read. */
  #placeOf(index: number) {
    const { wide } = this.#source;
    const isCast = wide !== undefined &&
      wide.tensors[index]!.dtype !== this.#source.tensors[index]!.dtype;
    const source = isCast ? wide : this.#source;
    const castFrom = isCast ? "float32" as const : undefined;
    const sizeBytes = tensorSizeBytes(source.tensors[index]!);
    const device = source.device?.(index);
    const bytes = device === undefined ? source.view(index) : undefined;
    const pieces: readonly StagePiece[] | undefined = device !== undefined
      ? [device].flat().map((memory) => ({ device: memory, castFrom }))
      : bytes && [{ bytes, castFrom }];
    return { source, castFrom, sizeBytes, pieces };
  }

  #readBytes(bucket: PlannedBucket): number {
    return bucket.tensors.reduce((sum, { sourceIndex }) => {
      const { pieces, sizeBytes } = this.#placeOf(sourceIndex);
      return pieces === undefined ? sum + sizeBytes : sum;
    }, 0);
  }
}

/** Fewer pieces for the same bytes: those that follow each other in memory become one. */
export function joinNeighbours(pieces: readonly StagePiece[]): StagePiece[] {
  const joined: StagePiece[] = [];
  for (const piece of pieces) {
    const last = joined.at(-1);
    const both = last && joinedWith(last, piece);
    if (both === undefined) joined.push(piece);
    else joined[joined.length - 1] = both;
  }
  return joined;
}

function joinedWith(first: StagePiece, second: StagePiece): StagePiece | undefined {
  const { castFrom } = first;
  if (castFrom !== second.castFrom) return undefined;
  if ("device" in first && "device" in second) {
    const { address, byteLength } = first.device;
    if (address + BigInt(byteLength) !== second.device.address) return undefined;
    return { device: { address, byteLength: byteLength + second.device.byteLength }, castFrom };
  }
  if (!("bytes" in first) || !("bytes" in second)) return undefined;
  const { buffer, byteOffset, byteLength } = first.bytes;
  const follows = buffer === second.bytes.buffer &&
    byteOffset + byteLength === second.bytes.byteOffset;
  if (!follows) return undefined;
  const bytes = new Uint8Array(buffer, byteOffset, byteLength + second.bytes.byteLength);
  return { bytes, castFrom };
}
