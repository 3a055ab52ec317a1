/** The server's side of a group that brings new weights. */

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
