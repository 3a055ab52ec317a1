/**
 * SGLang servers as an engine for reinforcement learning.
 *
 * @module
 */
export {
  type EngineWorker,
  type GenerateOptions,
  RLSGLangEngine,
  type WorkerLoad,
} from "./engine.ts";
export { AsyncSGLang } from "./async_sglang.ts";
export type { ManagedFleet } from "./managed.ts";
export { FleetEngine } from "./fleet_engine.ts";
export type { ManyPrompts, OnePrompt, Prompt, PromptFields, PromptList } from "./prompts.ts";
export type { RouterEvent } from "./router_route.ts";
export { type WorkerEvent, type WorkerState, workerTransitions } from "./member.ts";
export type { AddWorkerOptions, RefitOptions, RemoveWorkerOptions } from "./membership.ts";
export type { SerializedEngine } from "./serialized_engine.ts";
export type {
  ConnectOptions,
  ConnectTarget,
  EngineOptions,
  FromPretrainedOptions,
  RouterTarget,
} from "./options.ts";
export type { WeightUpdateGroupOptions } from "./weights.ts";
export type { SleepOptions, WakeOptions } from "./sleep.ts";
export type { SGLangWorker } from "./workers.ts";
export { type KnownGeneration, makeGeneration } from "./make_generation.ts";
export { readModelMetadata } from "./model_metadata.ts";
