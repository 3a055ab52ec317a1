/**
 * SGLang as the rollout engine of a reinforcement-learning loop, from Deno.
 *
 * - {@linkcode AsyncSGLang} connects to SGLang servers, or starts and owns them, and generates with
 *   them at full concurrency; {@linkcode SGLangClient} is one server, {@linkcode makeSGLangServer}
 *   and {@linkcode SGLangRouter} start the processes.
 * - {@linkcode SGLangWrapper} turns what the servers answer into rows to train on: token ids,
 *   log-probabilities, masks, and the policy version of every token.
 * - {@linkcode SGLangWeightSyncScheme} pushes new weights into the servers while they run.
 * - {@linkcode LLMCollector} collects trajectories from environments.
 *
 * These are the classes, their options and the errors. What is behind them is on sub-paths, such as
 * `./weights` or `./rows`; docs/api.md lists all names.
 *
 * Importing this module opens nothing and needs no permission; docs/permissions.md lists what each
 * part needs when it is used.
 *
 * @example
 * ```ts
 * import { AsyncSGLang, SGLangWrapper } from "@sglang-rl/sglang-rl";
 *
 * await using engine = await AsyncSGLang.connect("http://127.0.0.1:30000");
 * const policy = new SGLangWrapper(engine, { inputMode: "text" });
 * const rollout = await policy.call({ text: { prompt: ["2 + 2 ="] } });
 * // rollout.text, rollout.tokens, rollout.logProbs, rollout.masks
 * ```
 *
 * @module
 */
export {
  AbortedError,
  CheckpointError,
  ContextOverflowError,
  CrashedError,
  type ErrorCode,
  ExhaustedError,
  HttpError,
  isSGLangError,
  LibraryError,
  LimitError,
  NativeError,
  NeedsDenoError,
  PartialResultError,
  PausedError,
  PermissionError,
  ProtocolError,
  SGLangError,
  StateError,
  SyncOvertakenError,
  TemplateLimitError,
  TimeoutError,
  TokenDriftError,
  UnreachableError,
  UnsupportedError,
  ValidationError,
  WeightSyncError,
} from "./src/errors.ts";
export {
  type GenerateRequest,
  type Generation,
  type GenerationDelta,
  type Logger,
  type SamplingParams,
  SGLangClient,
  type SGLangClientOptions,
} from "./src/client/mod.ts";
export { makeSGLangServer, SGLangServer, type SGLangServerOptions } from "./src/server/mod.ts";
export { SGLangRouter, type SGLangRouterOptions } from "./src/router/mod.ts";
export {
  AsyncSGLang,
  type ConnectOptions,
  type ConnectTarget,
  type EngineOptions,
  type FromPretrainedOptions,
  type GenerateOptions,
  type Prompt,
  RLSGLangEngine,
} from "./src/engine/mod.ts";
export {
  progressBar,
  SGLangWeightReceiver,
  SGLangWeightSender,
  SGLangWeightSyncScheme,
  type UpdateWeightsOptions,
  type WeightSyncOptions,
  type WeightSyncReport,
} from "./src/weights/mod.ts";
export { safetensors, stateDict, tensorDict, type WeightSource } from "./src/weights/source/mod.ts";
export {
  type LLMWrapperOptions,
  LocalTokenizer,
  type PolicyInput,
  type PolicyOutput,
  SGLangWrapper,
} from "./src/policy/mod.ts";
export { ChatHistory, History, type Message } from "./src/policy/chat.ts";
export { LogProbs, Masks, Text, Tokens } from "./src/policy/rows.ts";
export {
  LLMCollector,
  type LLMCollectorOptions,
  ReplayBuffer,
  ResumingEngine,
  RolloutBatch,
  type RolloutRow,
} from "./src/collector/mod.ts";
export {
  type Environment,
  EnvironmentPool,
  promptEnvironment,
  toolEnvironment,
} from "./src/collector/environments/mod.ts";
