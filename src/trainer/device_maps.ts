import { type TensorInfo, tensorSizeBytes } from "../checkpoint/dtype.ts";
import type { DeviceMemory } from "../collective/group.ts";
import { ProtocolError } from "../errors.ts";

/** What maps device memory of another process: `DeviceImporter` of `./nccl`. */
export interface MemoryMapper extends AsyncDisposable {
  /** Maps an allocation. */
  map(handle: Uint8Array<ArrayBuffer>, byteLength: number): Promise<bigint>;
  /** Lets go of it. */
  unmap(address: bigint): Promise<void>;
}

/** Device memory of a trainer in which the tensors of a push lie. */
export interface PushedMemory {
  /** The whole allocations. */
  readonly allocations: readonly {
    readonly handle: Uint8Array<ArrayBuffer>;
    readonly byteLength: number;
  }[];
  /** By tensor: its allocation and where it begins there; `undefined` for one in host memory. */
  readonly places: readonly (readonly [allocation: number, offset: number] | undefined)[];
}

const HANDLE_BYTES = 64;
/** Most allocations of a push. */
const MAX_ALLOCATIONS = 100_000;

/**
 * Reads the `memory` of a push: `{"allocations": [[handle, bytes], …], "tensors": [[allocation,
 * offset], null, …]}`, handles in hexadecimal digits.
 *
 * @throws {ProtocolError} It is malformed, or a tensor lies outside of its allocation.
 */
export function readMemory(
  value: Readonly<Record<string, unknown>>,
  tensors: readonly TensorInfo[],
): PushedMemory {
  const { allocations, tensors: places } = value;
  if (
    !Array.isArray(allocations) || allocations.length > MAX_ALLOCATIONS ||
    !Array.isArray(places) || places.length !== tensors.length
  ) throw new ProtocolError("the memory of the push is malformed");
  const read = allocations.map((allocation) => {
    const [handle, byteLength] = Array.isArray(allocation) ? allocation : [];
    const isHandle = typeof handle === "string" && /^[0-9a-f]+$/.test(handle) &&
      handle.length === 2 * HANDLE_BYTES;
    if (!isHandle || !Number.isSafeInteger(byteLength) || byteLength <= 0) {
      throw new ProtocolError("an allocation of the push is no [handle, bytes]");
    }
    return { handle: Uint8Array.fromHex(handle), byteLength: byteLength as number };
  });
  return {
    allocations: read,
    places: places.map((place, i) => {
      if (place === null) return undefined;
      const [allocation, offset] = Array.isArray(place) ? place : [];
      const known = read[allocation];
      const end = offset + tensorSizeBytes(tensors[i]!);
      if (
        known === undefined || !Number.isSafeInteger(offset) || offset < 0 || end > known.byteLength
      ) throw new ProtocolError(`"${tensors[i]!.name}" lies outside of its allocation`);
      return [allocation, offset] as const;
    }),
  };
}

/** The allocations of a push, mapped for as long as a sync reads them. */
export class DeviceMaps implements AsyncDisposable {
  readonly #mapper: MemoryMapper;
  readonly #memory: PushedMemory;
  readonly #addresses: bigint[] = [];

  private constructor(mapper: MemoryMapper, memory: PushedMemory) {
    this.#mapper = mapper;
    this.#memory = memory;
  }

  /** Maps all of them; when one cannot be, none stays. */
  static async open(
    mapper: MemoryMapper,
    memory: PushedMemory,
    signal: AbortSignal | undefined,
  ): Promise<DeviceMaps> {
    const maps = new DeviceMaps(mapper, memory);
    try {
      for (const { handle, byteLength } of memory.allocations) {
        signal?.throwIfAborted();
        maps.#addresses.push(await mapper.map(handle, byteLength));
      }
      return maps;
    } catch (error) {
      await maps[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Where a tensor lies here. */
  at(index: number, byteLength: number): DeviceMemory | undefined {
    const place = this.#memory.places[index];
    if (place === undefined) return undefined;
    const [allocation, offset] = place;
    return { address: this.#addresses[allocation]! + BigInt(offset), byteLength };
  }

  /** Lets go of all; one that cannot be let go keeps none of the others. */
  async [Symbol.asyncDispose](): Promise<void> {
    const addresses = this.#addresses.splice(0);
    const outcomes = await Promise.allSettled(
      addresses.map((address) => this.#mapper.unmap(address)),
    );
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }
}
