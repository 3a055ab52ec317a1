/**
 * New weights into running SGLang servers: sources of weights, the sync scheme with its sender and
 * receiver, and the transports.
 *
 * @module
 */
export type { VersionedCollector } from "./collectors.ts";
export type { ReceiverCall } from "./fleet/fleet.ts";
export type { ServerGroup, WeightCondition, WeightServerState } from "./fleet/server.ts";
export {
  DEFAULT_DEADLINES,
  type DiskOptions,
  type NcclLibraries,
  type VerifyLevel,
  type WeightDeadlines,
  type WeightEngine,
  type WeightStrategy,
  type WeightSyncOptions,
  type WeightWorker,
} from "./options.ts";
export { type ReceiverGroup, type ReceiverUpdate, SGLangWeightReceiver } from "./receiver.ts";
export { SGLangWeightSyncScheme } from "./scheme.ts";
export { type DeclaredMetadata, SGLangWeightSender, type UpdateWeightsOptions } from "./sender.ts";
export type { ModelInput, StatefulModel } from "./source/input.ts";
export { type NamedWeight, type WeightIterator, weightIterator } from "./source/iterator.ts";
export { safetensors } from "./source/safetensors.ts";
export type { OpenWeightSource, WeightSource } from "./source/source.ts";
export { type StateDict, stateDict, type TensorDict, tensorDict } from "./source/state_dict.ts";
export type { DeviceTensor, WeightTensor } from "./source/tensor.ts";
export { metadataOf, type ModelMetadata } from "./sync/names.ts";
export {
  type Bucket,
  DEFAULT_BUCKET_BYTES,
  type PlannedBucket,
  type PlannedTensor,
} from "./sync/plan.ts";
export type { FleetSync } from "./fleet_sync.ts";
export {
  type OnProgress,
  progressBar,
  type ProgressOutput,
  type SyncPhase,
  type SyncProgress,
} from "./sync/progress.ts";
export type { WeightSyncReport } from "./sync/report.ts";
export { stageBuckets, type StagedBucket } from "./transport/staging.ts";
export type {
  OpenTransport,
  Transport,
  TransportChoice,
  TransportLink,
  TransportName,
  TransportRun,
  TransportServer,
  TransportSettings,
  TransportUpdate,
  UpdateCall,
  WillCall,
} from "./transport/transport.ts";
export { type ReservedVersion, VersionLedger, type VersionStanding } from "./version_ledger.ts";
export type {
  BroadcastPart,
  CollectiveGroup,
  DeviceMemory,
  DevicePart,
  GatheredPart,
  OpenGroup,
  OpenGroupOptions,
  StagePart,
  StagePiece,
  TransportCall,
} from "../collective/group.ts";
