import type { CallOptions } from "./communicator.ts";
import type { RankInfo, RequestName, Requests } from "./protocol.ts";

/** A rank that does what it is asked, on a thread of this process or in the keeper's. */
export interface Rank extends AsyncDisposable {
  /** What was opened: versions and paths. */
  readonly info: RankInfo;
  /** Why it can no longer be used, when it cannot. */
  readonly ended: Error | undefined;
  /** Whether it lets go of its peers by itself when this process is killed. */
  readonly outlivesUs: boolean;
  /** The address of a buffer of this thread, kept alive until {@linkcode Rank.close}. */
  hold(bytes: Uint8Array): bigint;
  /** The address of a buffer of this thread; name the buffer in the request's `keep`. */
  addressOf(bytes: Uint8Array): bigint;
  /** Sends a request and waits for its answer. */
  request<Name extends RequestName>(
    name: Name,
    args: Requests[Name]["arguments"],
    options: CallOptions,
  ): Promise<Requests[Name]["answer"]>;
  /** Drops the communicator at once and ends the rank. Never rejects; `false`: it is stuck. */
  abort(reason: Error): Promise<boolean>;
  /** Ends the communicator in order, once its peers do too, and the rank. */
  close(options: CallOptions): Promise<void>;
}
