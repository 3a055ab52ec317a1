/**
 * New weights into running SGLang servers: the sync scheme with its sender and receiver. What is
 * sent comes from `./weights/sources`, the way it takes is in `./weights/transports`.
 *
 * @module
 */
export type { VersionedCollector } from "./collectors.ts";
export type { ReceiverCall } from "./fleet/fleet.ts";
export type { ServerGroup, WeightCondition, WeightServerState } from "./fleet/server.ts";
export { DEFAULT_DEADLINES, type WeightDeadlines } from "./deadlines.ts";
export {
  type DiskOptions,
  type FleetSync,
  type NameCheck,
  type NcclLibraries,
  type VerifyLevel,
  type WeightEngine,
  type WeightServers,
  type WeightStrategy,
  type WeightSyncFields,
  type WeightSyncOptions,
  type WeightSyncSettings,
  type WeightWorker,
} from "./options.ts";
export { type ReceiverGroup, type ReceiverUpdate, SGLangWeightReceiver } from "./receiver.ts";
export { SGLangWeightSyncScheme } from "./scheme.ts";
export { type DeclaredMetadata, SGLangWeightSender, type UpdateWeightsOptions } from "./sender.ts";
export type { WeightCheck } from "./sync/check.ts";
export { metadataOf, type ModelMetadata } from "./sync/names.ts";
export {
  type OnProgress,
  progressBar,
  type ProgressOutput,
  type SyncPhase,
  type SyncProgress,
} from "./sync/progress.ts";
export type { SyncedPart, WeightPattern } from "./sync/part.ts";
export type { WeightSyncReport } from "./sync/report.ts";
export { type ReservedVersion, VersionLedger, type VersionStanding } from "./version_ledger.ts";
