import type { WeightServerState } from "./fleet/server.ts";
import type { WeightSyncSettings } from "./options.ts";
import type { WeightSource } from "./source/source.ts";
import type { ModelMetadata } from "./sync/names.ts";

/** How a sync ended, for the engine whose servers it was for. */
export interface FleetSync {
  /** The version that it brought, or was to bring; `undefined` where it failed before that. */
  readonly version: string | undefined;
  /** Whether it succeeded. */
  readonly isDone: boolean;
  /** What became of every server, also of those that were left out. */
  readonly servers: readonly WeightServerState[];
  /** The weights. */
  readonly source: WeightSource;
  /**
   * What the source's files were, where it has files: as long as they are the same, the same weights
   * can be brought to another server later.
   */
  readonly fingerprint: string | undefined;
  /** How it was done, without the servers. */
  readonly options: WeightSyncSettings;
  /** What the trainer declared of its weights. */
  readonly declared: ModelMetadata | undefined;
}
