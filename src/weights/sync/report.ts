import type { Fleet } from "../fleet/fleet.ts";
import type { WeightServerState } from "../fleet/server.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { VerifyLevel } from "../options.ts";
import type { WeightSource } from "../source/source.ts";
import type { Transport } from "../transport/transport.ts";
import type { VersionLedger } from "../version_ledger.ts";
import type { ModelMetadata } from "./names.ts";
import type { Part, SyncedPart } from "./part.ts";
import type { OnProgress, SyncPhase } from "./progress.ts";

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
  /** What was sent, where it was a part (`only`); the servers keep the other tensors of its base. */
  readonly part: SyncedPart | undefined;
  /** Whether the prefix caches were emptied; `null` when that was not wanted. */
  readonly cacheFlushed: boolean | null;
  /** What was proven; see the levels. */
  readonly verified: VerifyLevel;
  /** Whether every value that was sent was looked at and is finite. */
  readonly finite: boolean;
  /** Checksum of every server's weights with `verify: "checksum"`. */
  readonly checksums: readonly string[] | undefined;
  /** Milliseconds from the first request to the last answer. */
  readonly durationMs: number;
  /** Milliseconds of these in which the servers were paused, from the first call to the last answer. */
  readonly pausedMs: number;
  /** Milliseconds by step. */
  readonly phasesMs: Readonly<Partial<Record<SyncPhase, number>>>;
}

/** What one sync is made of. */
export interface SyncRequest {
  readonly fleet: Fleet;
  readonly options: ResolvedOptions;
  readonly source: WeightSource;
  /** Weights that the trainer declared, if it did. */
  readonly declared: ModelMetadata | undefined;
  /** The tensors that it is about; `undefined`: all. */
  readonly part: Part | undefined;
  /** The user's name for the weights; `undefined`: the next number. */
  readonly version: string | undefined;
  /** Gives the name that the servers get. */
  readonly versions: VersionLedger;
  /** Told of that name before the first weight is written. */
  readonly onAnnounce: (version: string) => void;
  /** Who syncs; part of the mark on the servers. */
  readonly owner: string;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: OnProgress | undefined;
  /** Picks the way; called once the servers are known. */
  readonly openTransport: () => Promise<Transport>;
}
