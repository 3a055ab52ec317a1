import type { WeightServerState } from "../fleet/server.ts";
import type { VerifyLevel } from "../options.ts";
import type { SyncPhase } from "./progress.ts";

/** What a successful sync did. */
export interface WeightSyncReport {
  /** The version that every server now has; no other weights ever had it. */
  readonly version: string;
  /** Unique id of the sync. */
  readonly syncId: string;
  /** The servers. */
  readonly servers: readonly WeightServerState[];
  /** Servers that were left out because they did not answer. */
  readonly skipped: readonly string[];
  /** How the weights travelled. */
  readonly transport: string;
  /** Number of tensors sent. */
  readonly tensors: number;
  /** Number of buckets. */
  readonly buckets: number;
  /** Bytes of all tensors. */
  readonly sizeBytes: number;
  /** Names that were not sent: tied to one that was, or not declared. */
  readonly notSent: readonly string[];
  /** Whether the prefix caches were emptied; `null` when that was not wanted. */
  readonly cacheFlushed: boolean | null;
  /** What was proven; see the levels. */
  readonly verified: VerifyLevel;
  /** Checksum of every server's weights with `verify: "checksum"`. */
  readonly checksums: readonly string[] | undefined;
  /** Milliseconds from the first request to the last answer. */
  readonly durationMs: number;
  /** Milliseconds of these in which the servers were paused, from the first call to the last answer. */
  readonly pausedMs: number;
  /** Milliseconds by step. */
  readonly phasesMs: Readonly<Partial<Record<SyncPhase, number>>>;
}
