/**
 * New weights into running SGLang servers: sources of weights, the sync scheme with its sender and
 * receiver, and the transports.
 *
 * @module
 */
export type { ModelMetadata } from "./check.ts";
export type { TransportChoice } from "./choose.ts";
export type { VersionedCollector } from "./collectors.ts";
export { metadataOf } from "./metadata.ts";
export type { ModelInput, StatefulModel } from "./model.ts";
export {
  DEFAULT_DEADLINES,
  type DiskOptions,
  type NcclLibraries,
  type TransportName,
  type VerifyLevel,
  type WeightDeadlines,
  type WeightEngine,
  type WeightStrategy,
  type WeightSyncOptions,
  type WeightWorker,
} from "./options.ts";
export { DEFAULT_BUCKET_BYTES } from "./plan.ts";
export {
  type OnProgress,
  progressBar,
  type ProgressOutput,
  type SyncPhase,
  type SyncProgress,
} from "./progress.ts";
export {
  type ReceiverCall,
  type ReceiverGroup,
  type ReceiverUpdate,
  SGLangWeightReceiver,
} from "./receiver.ts";
export { SGLangWeightSyncScheme } from "./scheme.ts";
export { type DeclaredMetadata, SGLangWeightSender, type UpdateWeightsOptions } from "./sender.ts";
export type { WeightCondition, WeightServerState } from "./server.ts";
export { type NamedWeight, type WeightIterator, weightIterator } from "./source/iterator.ts";
export { safetensors } from "./source/safetensors.ts";
export type { OpenWeightSource, WeightSource } from "./source/source.ts";
export { type StateDict, stateDict, type TensorDict, tensorDict } from "./source/state_dict.ts";
export type { DeviceTensor, WeightTensor } from "./source/tensor.ts";
export type { WeightSyncReport } from "./sync.ts";
export type {
  BroadcastPart,
  Bucket,
  CollectiveGroup,
  DeviceMemory,
  DevicePart,
  GatheredPart,
  OpenGroup,
  OpenGroupOptions,
  StagePart,
  StagePiece,
  TransportCall,
} from "./transport.ts";
