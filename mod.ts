/**
 * SGLang for reinforcement learning of language models, from Deno.
 *
 * @module
 */
export * from "./src/errors.ts";
export type * from "./src/client/types.ts";
export {
  type EngineWorker,
  type GenerateOptions,
  type Prompt,
  type PromptFields,
  RLSGLangEngine,
  type WorkerLoad,
} from "./src/engine/engine.ts";
