/** The server's side of a group that brings new weights. */
import { GlooPeer } from "../collective/gloo/peer.ts";

/** How to join a group. */
export interface JoinOptions {
  readonly masterAddress: string;
  readonly masterPort: number;
  readonly rank: number;
  readonly worldSize: number;
  readonly groupName: string;
  /** Ends the attempt. */
  readonly signal: AbortSignal;
}

/** A joined group. */
export interface WeightGroup {
  /** The next broadcast of rank 0, which must have this many bytes. */
  receive(byteLength: number, options: { signal: AbortSignal }): Promise<Uint8Array>;
  /** Leaves the group. */
  close(): Promise<void>;
}

/** Joins a group. */
export type JoinGroup = (options: JoinOptions) => Promise<WeightGroup>;

/**
 * A group of this server alone, for tensors of a device that it has not: no broadcast of it succeeds.
 */
export function groupForOtherDevice(): WeightGroup {
  return {
    receive: () => Promise.reject(new Error("No backend type associated with device type cpu")),
    close: () => Promise.resolve(),
  };
}

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
