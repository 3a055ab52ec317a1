/**
 * For those who write a transport or a group: what a sync asks of a way that bytes take to the
 * servers, the buckets it sends, and the group that carries them.
 *
 * @module
 */
export {
  type Bucket,
  DEFAULT_BUCKET_BYTES,
  type PlannedBucket,
  type PlannedTensor,
} from "../sync/plan.ts";
export type {
  FieldsOfTransport,
  GroupField,
  OptionsOfTransport,
  TransportFields,
  TransportOptions,
} from "../options.ts";
export { stageBuckets, type StagedBucket } from "./staging.ts";
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
  UpdateQueue,
  WillCall,
} from "./transport.ts";
export type {
  BroadcastPart,
  CollectiveGroup,
  DeviceMemory,
  DevicePart,
  FindWord,
  Float8Cast,
  FoundWord,
  GatheredPart,
  OpenGroup,
  OpenGroupOptions,
  StagePart,
  StagePiece,
  TransportCall,
  WordRange,
} from "../../collective/group.ts";
