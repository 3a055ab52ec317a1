import { tensorSizeBytes } from "../../checkpoint/dtype.ts";
import type { GatheredPart, StagePiece } from "../../collective/group.ts";
import { castFromOf } from "../source/cast.ts";
import { readAll, type TensorRead } from "../source/read_all.ts";
import type { Float8Origin, OpenWeightSource } from "../source/source.ts";
import type { PlannedBucket } from "../sync/plan.ts";
import type { StagingMemory } from "./staging.ts";

/** What a {@linkcode GatheringRing} works with. */
export interface GatheringOptions {
  /** Where tensors that lie elsewhere are read into. */
  readonly memory: StagingMemory;
  /** The buckets that it is asked for. */
  readonly buckets: readonly PlannedBucket[];
  /** Whether the device makes FP8 by itself. */
  readonly makesFloat8: boolean;
}

/**
 * Finds the pieces of buckets for a transport that brings them together on a device by itself.
 * Tensors in this process's memory or on the device are pieces where they lie; others are read into
 * two buffers in turn. Tensors that a cast makes smaller are given before the cast.
 */
export class GatheringRing {
  readonly #source: OpenWeightSource;
  readonly #memory: StagingMemory;
  readonly #mostReadBytes: number;
  readonly #makesFloat8: boolean;
  #turn = 0;

  /** Makes a ring over an open source, for just these buckets. */
  constructor(source: OpenWeightSource, options: GatheringOptions) {
    const { memory, buckets, makesFloat8 } = options;
    this.#source = source;
    this.#memory = memory;
    this.#makesFloat8 = makesFloat8;
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
    const matrices = new Map<number, Uint8Array>();
    const pieces = bucket.tensors.map(({ sourceIndex }): readonly StagePiece[] => {
      const place = this.#placeOf(sourceIndex);
      if (place.pieces !== undefined) return place.pieces;
      const { source, index, castFrom, float8, sizeBytes } = place;
      // Values and scales of a matrix are made of the same bytes.
      const there = float8 && matrices.get(index);
      const bytes = there ?? buffer.subarray(used, used += sizeBytes);
      if (there === undefined) reads.push({ source, index, target: bytes });
      if (float8 !== undefined) matrices.set(index, bytes);
      return [{ bytes, castFrom, float8 }];
    });
    await readAll(reads, { atOnce: this.#source.readsAtOnce, signal });
    return bucket.flattened
      ? [{ pieces: joinNeighbours(pieces.flat()), dtype: "uint8" }]
      : bucket.tensors.map(({ dtype }, i) => ({ pieces: pieces[i]!, dtype }));
  }

  /** Where a tensor's bytes are taken from: pieces that are there, or a source to read. */
  #placeOf(index: number): Place {
    const made = this.#makesFloat8 ? this.#source.float8?.(index) : undefined;
    if (made !== undefined) return madeOf(made);
    const castFrom = castFromOf(this.#source, index);
    const source = castFrom === undefined ? this.#source : this.#source.wide!;
    return placeIn(source, index, { castFrom });
  }

  #readBytes(bucket: PlannedBucket): number {
    const matrices = new Set<number>();
    return bucket.tensors.reduce((sum, { sourceIndex }) => {
      const { pieces, sizeBytes, float8, index } = this.#placeOf(sourceIndex);
      if (pieces !== undefined || (float8 !== undefined && matrices.has(index))) return sum;
      if (float8 !== undefined) matrices.add(index);
      return sum + sizeBytes;
    }, 0);
  }
}

/** Where a tensor's bytes are, and what is made of them. */
interface Place extends Pick<StagePiece, "castFrom" | "float8"> {
  readonly source: OpenWeightSource;
  /** Its index there. */
  readonly index: number;
  readonly sizeBytes: number;
  /** Absent where it must be read first. */
  readonly pieces: readonly StagePiece[] | undefined;
}

function placeIn(
  source: OpenWeightSource,
  index: number,
  made: Pick<StagePiece, "castFrom" | "float8">,
): Place {
  const sizeBytes = tensorSizeBytes(source.tensors[index]!);
  const device = source.device?.(index);
  const bytes = device === undefined ? source.view(index) : undefined;
  const pieces: readonly StagePiece[] | undefined = device !== undefined
    ? [device].flat().map((memory) => ({ device: memory, ...made }))
    : bytes && [{ bytes, ...made }];
  return { source, index, sizeBytes, pieces, ...made };
}

/** The matrix of which FP8 is made. */
function madeOf({ source, index, part }: Float8Origin): Place {
  const { name, dtype, shape } = source.tensors[index]!;
  const [rows, columns] = shape as [number, number];
  const from = dtype === "float32" ? dtype : "bfloat16";
  return placeIn(source, index, { float8: { name, from, rows, columns, part } });
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
  // Of each matrix something of its own is made.
  if (first.float8 !== undefined || second.float8 !== undefined) return undefined;
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
