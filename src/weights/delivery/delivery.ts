import type { FleetServer } from "../server.ts";
import type { TransportName } from "../options.ts";
import type { PlannedBucket } from "../plan.ts";
import type { OpenWeightSource, WeightSource } from "../source/source.ts";
import type { Steps } from "../steps.ts";

/** One sync, as a delivery sees it. */
export interface SyncRun {
  /** The servers that take part. */
  readonly servers: readonly FleetServer[];
  /** The weights. */
  readonly source: WeightSource;
  /** The weights, open. */
  readonly open: OpenWeightSource;
  /** What is sent, in order. */
  readonly buckets: readonly PlannedBucket[];
  /** The version that the servers shall have, unless another trainer comes first. */
  readonly version: string;
  /** Where the sync is. */
  readonly steps: Steps;
  /** The caller's cancellation. */
  readonly signal: AbortSignal | undefined;
}

/** A way in which weights reach servers. */
export interface Delivery extends AsyncDisposable {
  /** Its name. */
  readonly transport: TransportName;
  /** Whether servers from 0.5.22 want a session around it. */
  readonly needsSession: boolean;
  /** Opens what can be opened before there are weights. */
  connect(run: Pick<SyncRun, "servers" | "steps" | "signal">): Promise<void>;
  /** Does all that can be done while the servers still generate. */
  prepare(run: SyncRun): Promise<void>;
  /** Brings every byte to every server; afterwards each has answered that it took them. */
  deliver(run: SyncRun): Promise<void>;
  /** Ends what is open, so that `prepare` opens it anew. */
  reset(): Promise<void>;
  /** After a failure: lets go, so that nothing of ours can block a server. Never rejects. */
  abort(error: Error): Promise<void>;
  /** Whether it is ready to deliver without `prepare`. */
  readonly isConnected: boolean;
}
