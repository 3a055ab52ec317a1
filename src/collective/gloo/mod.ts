/**
 * A gloo group without Python: rank 0, which broadcasts, and the other ranks, which receive.
 *
 * @module
 */
export type { DType, TensorInfo } from "../../checkpoint/mod.ts";
export type {
  BroadcastPart,
  CollectiveGroup,
  DeviceMemory,
  DevicePart,
  GatheredPart,
  OpenGroupOptions,
  StagePart,
  StagePiece,
  TransportCall,
} from "../group.ts";
export { GlooGroup } from "./group.ts";
export { GlooPeer, type JoinGlooOptions } from "./peer.ts";
