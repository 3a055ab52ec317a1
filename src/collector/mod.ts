/**
 * Collecting rollouts: the collector, batches, policy versions, exports. Environments are in
 * `./environments`.
 *
 * @module
 */
export * from "./policy.ts";
export * from "./row.ts";
export {
  type DialogFailure,
  type JoinedDialogRow,
  RolloutBatch,
  type RolloutBatchInit,
} from "./batch.ts";
export {
  type KnownVersion,
  PolicyVersion,
  UNKNOWN_VERSION,
  type VersionEntry,
  type VersionKind,
  type VersionsState,
} from "./policy_version.ts";
export { ReplayBuffer, type ReplayBufferOptions } from "./replay_buffer.ts";
export type { CollectorStats } from "./stats.ts";
export type { CollectorState } from "./state.ts";
export type { IncompleteGroups } from "./groups.ts";
export type { OnStale } from "./staleness.ts";
export type { BatchSink, EnvironmentSource, LLMCollectorOptions, PolicySource } from "./options.ts";
export { LLMCollector } from "./collector.ts";
export type { RolloutOptions } from "./batch_wait.ts";
export {
  jsonLines,
  ROLLOUT_SCHEMA,
  toJsonLines,
  writeJsonLines,
  type WriteJsonLinesOptions,
} from "./export/json_lines.ts";
export { writeRollout } from "./export/safetensors.ts";
export { ForwardingEngine } from "./partial/forwarding_engine.ts";
export { ResumingEngine, type ResumingEngineOptions } from "./partial/resuming_engine.ts";
export type { PartialRollouts } from "./wrapper_policy.ts";
