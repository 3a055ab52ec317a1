import { GlooPeer } from "../collective/gloo/peer.ts";
import type { JoinOptions, WeightGroup } from "./weight_group.ts";

/** Joins a gloo group as one of its receiving ranks. */
export async function joinGloo(
  { masterAddress, masterPort, rank, worldSize, groupName, signal }: JoinOptions,
): Promise<WeightGroup> {
  const peer = await GlooPeer.join({
    masterAddress,
    masterPort,
    rank,
    worldSize,
    groupName,
    signal,
    timeoutMs: Infinity,
  });
  return {
    async receive(byteLength, { signal }) {
      const bytes = new Uint8Array(byteLength);
      await peer.receive(bytes, { signal });
      return bytes;
    },
    close: () => peer[Symbol.asyncDispose](),
  };
}
