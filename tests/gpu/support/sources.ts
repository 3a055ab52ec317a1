/** A checkpoint as each kind of weight source that the scheme takes. */
import { type CheckpointTensor, openCheckpoint } from "../../../src/checkpoint/mod.ts";
import type { NcclGroup } from "../../../ffi/mod.ts";
import {
  type DeviceTensor,
  stateDict,
  type WeightSource,
  type WeightTensor,
} from "../../../src/weights/source/mod.ts";

/** The tensors in memory. */
export function inMemory(folder: string): Promise<WeightSource> {
  return sourceOf(folder, ({ dtype, shape }, data) => ({ dtype, shape, data }));
}

/** The tensors as float32 whose lower bits a cast to bfloat16 must round off. */
export function asFloat32(folder: string): Promise<WeightSource> {
  return sourceOf(folder, ({ shape }, bytes) => {
    const halves = new Uint16Array(bytes.buffer);
    const words = new Uint32Array(halves.length);
    for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16 | 0x1234;
    return { dtype: "float32", shape, data: words };
  });
}

/**
 * The tensors in memory of the GPU that somebody else in this process owns, one after the other;
 * sent in that order, so that each bucket lies in one piece, or against it.
 */
export async function onDevice(
  folder: string,
  owner: NcclGroup,
  options: { readonly backwards?: boolean } = {},
): Promise<WeightSource> {
  await using checkpoint = await openCheckpoint(folder);
  let address = await owner.allocateDevice(checkpoint.byteLength);
  const placed: [string, DeviceTensor][] = [];
  for (const { name, dtype, shape, byteLength } of checkpoint.tensors.values()) {
    await owner.copyToDevice(address, await checkpoint.read(name));
    placed.push([name, { device: { address, byteLength }, dtype, shape }]);
    address += BigInt(byteLength);
  }
  return stateDict(new Map(options.backwards ? placed.toReversed() : placed));
}

async function sourceOf(
  folder: string,
  tensorOf: (tensor: CheckpointTensor, bytes: Uint8Array<ArrayBuffer>) => WeightTensor,
): Promise<WeightSource> {
  await using checkpoint = await openCheckpoint(folder);
  const entries = await Promise.all(
    [...checkpoint.tensors.values()].map(async (tensor) =>
      [tensor.name, tensorOf(tensor, await checkpoint.read(tensor.name))] as const
    ),
  );
  return stateDict(new Map(entries));
}
