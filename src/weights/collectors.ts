import type { PauseMode } from "../client/types.ts";
import type { Logger } from "../internal/logger.ts";

/** Who must know of new weights, such as a collector that tags its samples. */
export interface VersionedCollector {
  /** Called once after every successful sync, with the servers' new version. */
  incrementVersion(version: string): void | Promise<void>;
  /**
   * Called before a sync writes the first weight: from here on a server may answer with this
   * version, and before the sync has ended.
   */
  announceVersion?(version: string): void;
  /**
   * Told once, when it is registered, what the syncs do with running requests. With `"abort"` none
   * goes through a sync: it ends before the weights change, or begins after.
   */
  expectPauseMode?(mode: PauseMode): void;
}

/** Tells every collector; one that throws does not keep the others from being told. */
export async function tellCollectors(
  collectors: Iterable<VersionedCollector>,
  version: string,
  logger: Logger,
): Promise<void> {
  await Promise.all(
    Array.from(collectors, async (collector) => {
      try {
        await collector.incrementVersion(version);
      } catch (error) {
        logger.error(`A collector failed to take weight version ${version}: ${error}`);
      }
    }),
  );
}
