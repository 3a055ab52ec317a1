/**
 * The native core: Deno as rank 0 of an NCCL group with PyTorch processes. Importing it opens no
 * library and needs no permission.
 *
 * @module
 */
export { CHECKSUM_LIMIT_BYTES, checksumOf } from "./cuda/reference.ts";
export { DeviceExporter, type DeviceExporterOptions, type IpcMemory } from "./ipc/exporter.ts";
export { Keeper, type KeeperOptions } from "./keeper/keeper.ts";
export type { Will, WillCall } from "./keeper/messages.ts";
export { DeviceStage, type DeviceStageOptions } from "./nccl/device_stage.ts";
export { type LeakReporter, setLeakReporter } from "./handle.ts";
export type { LibraryName, LibraryOptions } from "./library.ts";
export { NcclGroup } from "./nccl/group.ts";
export type { NcclGroupOptions } from "./nccl/group_options.ts";
export type { RendezvousStore } from "./nccl/store.ts";
export type { RankInfo } from "./nccl/protocol.ts";
export type { DType, TensorInfo } from "../src/checkpoint/dtype.ts";
export type { Logger } from "../src/internal/logger.ts";
export type {
  BroadcastPart,
  CollectiveGroup,
  DeviceMemory,
  DevicePart,
  FindWord,
  Float8Cast,
  FoundWord,
  GatheredPart,
  StagePart,
  StagePiece,
  TransportCall,
  WordRange,
} from "../src/collective/group.ts";
export { DeviceImporter } from "./ipc/importer.ts";
