import { itemSizeBytes, type TensorInfo, tensorSizeBytes } from "../checkpoint/dtype.ts";
import type { DeviceMemory } from "../collective/group.ts";
import { ProtocolError } from "../errors.ts";
import { Semaphore } from "../internal/semaphore.ts";

/** What maps device memory of another process: `DeviceImporter` of `./nccl`. */
export interface MemoryMapper extends AsyncDisposable {
  /** Maps an allocation. */
  map(handle: Uint8Array<ArrayBuffer>, byteLength: number): Promise<bigint>;
  /** Lets go of it. */
  unmap(address: bigint): Promise<void>;
}

/** A whole allocation on a GPU of another process. */
export interface PushedAllocation {
  /** `cudaIpcMemHandle_t`. */
  readonly handle: Uint8Array<ArrayBuffer>;
  /** The same as digits: CUDA gives no handle twice. */
  readonly key: string;
  /** Its size. */
  readonly byteLength: number;
}

/** Bytes of a tensor that lie together. */
export interface PushedPiece {
  /** Index of the allocation. */
  readonly allocation: number;
  /** Where they begin in it. */
  readonly offset: number;
  /** How many. */
  readonly byteLength: number;
}

/** Device memory of a trainer in which the tensors of a push lie. */
export interface PushedMemory {
  /** The allocations. */
  readonly allocations: readonly PushedAllocation[];
  /** By tensor: its pieces in order, more than one of a sharded one; `undefined` in host memory. */
  readonly places: readonly (readonly PushedPiece[] | undefined)[];
  /** The trainer keeps these allocations: the next push will have them again. */
  readonly keep: boolean;
}

const HANDLE_BYTES = 64;
/** Most pieces of a tensor. */
const MAX_PIECES = 4096;
/** Most allocations of a push. */
const MAX_ALLOCATIONS = 100_000;

/**
 * Reads the `memory` of a push: `{"allocations": [[handle, bytes], …], "tensors": [[allocation,
 * offset], [[allocation, offset, bytes], …], null, …], "keep": false}`, handles in hexadecimal digits.
 *
 * @throws {ProtocolError} It is malformed, or a tensor lies outside of its allocation.
 */
export function readMemory(
  value: Readonly<Record<string, unknown>>,
  tensors: readonly TensorInfo[],
): PushedMemory {
  const { allocations, tensors: places, keep = false } = value;
  if (
    !Array.isArray(allocations) || allocations.length > MAX_ALLOCATIONS ||
    !Array.isArray(places) || places.length !== tensors.length || typeof keep !== "boolean"
  ) throw new ProtocolError("the memory of the push is malformed");
  const read = allocations.map(readAllocation);
  return {
    keep,
    allocations: read,
    places: places.map((place, i) => {
      if (place === null) return undefined;
      const { name, dtype } = tensors[i]!;
      const byteLength = tensorSizeBytes(tensors[i]!);
      const itemBytes = itemSizeBytes(dtype);
      const isSharded = Array.isArray(place) && Array.isArray(place[0]);
      const given: unknown[] = isSharded ? place : [asPiece(place, byteLength)];
      const pieces = given.length <= MAX_PIECES
        ? given.map((piece) => readPiece(piece, read, itemBytes))
        : [undefined];
      const sum = pieces.reduce((bytes, piece) => bytes + (piece?.byteLength ?? NaN), 0);
      // NaN is not equal to any size.
      if (sum === byteLength) return pieces as PushedPiece[];
      throw new ProtocolError(`"${name}" lies outside of its allocation`);
    }),
  };
}

function readAllocation(value: unknown): PushedAllocation {
  const [key, byteLength] = Array.isArray(value) ? value : [];
  const isHandle = typeof key === "string" && key.length === 2 * HANDLE_BYTES &&
    /^[0-9a-f]+$/.test(key);
  if (!isHandle || !Number.isSafeInteger(byteLength) || byteLength <= 0) {
    throw new ProtocolError("an allocation of the push is no [handle, bytes]");
  }
  return { handle: Uint8Array.fromHex(key), key, byteLength };
}

function asPiece(place: unknown, byteLength: number): unknown {
  return Array.isArray(place) ? [place[0], place[1], byteLength] : place;
}

function readPiece(
  value: unknown,
  allocations: readonly PushedAllocation[],
  itemBytes: number,
): PushedPiece | undefined {
  const [allocation, offset, byteLength] = Array.isArray(value) ? value : [];
  const known = Number.isSafeInteger(allocation) ? allocations[allocation] : undefined;
  const isInside = known !== undefined && Number.isSafeInteger(offset) && offset >= 0 &&
    Number.isSafeInteger(byteLength) && byteLength >= 0 && offset + byteLength <= known.byteLength;
  // A kernel that reads a number across its boundary ends the whole device context.
  const isAligned = offset % itemBytes === 0 && byteLength % itemBytes === 0;
  return isInside && isAligned ? { allocation, offset, byteLength } : undefined;
}

/** An allocation that is mapped here. */
interface Mapped {
  readonly mapper: MemoryMapper;
  readonly address: bigint;
  /** Syncs that read it. */
  readers: number;
}

/**
 * The allocations of one trainer that are mapped. Mapping takes a tenth of a millisecond each and a
 * model lies in hundreds, so those of a trainer that keeps them stay until it pushes others.
 */
export class DeviceMaps implements AsyncDisposable {
  readonly #mapped = new Map<string, Mapped>();
  /** One at a time maps or lets go. */
  readonly #turn = new Semaphore(1);
  #isOver = false;

  /**
   * Maps all allocations of a push, and lets go of those that it does not name; when one cannot be
   * mapped, none stays.
   */
  async open(
    mapper: MemoryMapper,
    memory: PushedMemory,
    signal: AbortSignal | undefined,
  ): Promise<OpenMaps> {
    using _turn = await this.#turn.acquire(signal);
    const held: Mapped[] = [];
    try {
      const named = new Set(memory.allocations.map(({ key }) => key));
      await this.#unmap((key) => !named.has(key));
      for (const { key, handle, byteLength } of memory.allocations) {
        signal?.throwIfAborted();
        let mapped = this.#mapped.get(key);
        if (mapped === undefined) {
          mapped = { mapper, address: await mapper.map(handle, byteLength), readers: 0 };
          this.#mapped.set(key, mapped);
        }
        mapped.readers++;
        held.push(mapped);
      }
    } catch (error) {
      for (const mapped of held) mapped.readers--;
      await this.#unmap(() => true).catch(() => {});
      throw error;
    }
    return new OpenMaps(memory, held.map(({ address }) => address), async () => {
      for (const mapped of held.splice(0)) mapped.readers--;
      if (!memory.keep || this.#isOver) await this.release();
    });
  }

  /** Lets go of everything that no sync reads. */
  async release(): Promise<void> {
    using _turn = await this.#turn.acquire();
    await this.#unmap(() => true);
  }

  /** The trainer is gone: lets go of everything, of what a sync reads when it is over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.release();
  }

  /** One that cannot be let go keeps none of the others. */
  async #unmap(isUnwanted: (key: string) => boolean): Promise<void> {
    const unwanted = [...this.#mapped].filter(([key, { readers }]) =>
      readers === 0 && isUnwanted(key)
    );
    for (const [key] of unwanted) this.#mapped.delete(key);
    const outcomes = await Promise.allSettled(
      unwanted.map(([, { mapper, address }]) => mapper.unmap(address)),
    );
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }
}

/** Mapped allocations for as long as a sync reads them. */
export class OpenMaps implements AsyncDisposable {
  readonly #memory: PushedMemory;
  readonly #addresses: readonly bigint[];
  readonly #close: () => Promise<void>;

  /** Made by {@linkcode DeviceMaps.open}. @internal */
  constructor(memory: PushedMemory, addresses: readonly bigint[], close: () => Promise<void>) {
    this.#memory = memory;
    this.#addresses = addresses;
    this.#close = close;
  }

  /** Where a tensor lies here, piece by piece. */
  at(index: number): readonly DeviceMemory[] | undefined {
    return this.#memory.places[index]?.map(({ allocation, offset, byteLength }) => ({
      address: this.#addresses[allocation]! + BigInt(offset),
      byteLength,
    }));
  }

  /** The sync is over. Safe to call twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}
