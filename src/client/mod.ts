/**
 * One SGLang server over HTTP.
 *
 * @module
 */
export type { RoutedExperts } from "./routed_experts.ts";
export type * from "./types.ts";
export { SGLangClient } from "./client.ts";
export { ServerControl } from "./control.ts";
export {
  type DistributedWeights,
  WeightControl,
  type WeightsGroupOptions,
  type WeightUpdateOptions,
} from "./weight_control.ts";
export type { Capabilities, StreamMode } from "./capabilities.ts";
export type { MemoryTag } from "./memory.ts";
export type { ClientLimits } from "./limits.ts";
export type { RetrySettings, SGLangClientOptions } from "./options.ts";
export type { SamplingAliases } from "./sampling_aliases.ts";
export {
  type ConvertSamplingOptions,
  convertSamplingParams,
  TORCHRL_SAMPLING_DEFAULTS,
  type WireSampling,
} from "./sampling_params.ts";
export type { ServerLoad } from "./server_info.ts";
export type { Logger } from "../internal/logger.ts";
export type { Clock } from "../internal/clock.ts";
