/**
 * The wrapper that makes rollout data from what servers answer, and the tokenizers it works with.
 * Its rows are in `./rows`, its conversations in `./chat`.
 *
 * @module
 */
export { LocalTokenizer, type TokenizerFiles } from "./local_tokenizer.ts";
export {
  type DecodeOptions,
  type EncodeOptions,
  padIdOf,
  type SpecialTokens,
  type Tokenizer,
} from "./tokenizer.ts";
export { type AnyLLMWrapper, LLMWrapperBase } from "./wrapper/base.ts";
export type { BatchingState } from "./wrapper/batcher.ts";
export {
  type MarkedText,
  TemplateChatModel,
  type TemplateChatModelOptions,
} from "./wrapper/chat_model.ts";
export { EngineTokenizer } from "./wrapper/engine_tokenizer.ts";
export type { Ids, InputParts, PolicyInput } from "./wrapper/inputs.ts";
export type { FollowingMessages } from "./wrapper/next_input.ts";
export type {
  DriftAction,
  InputMode,
  LLMWrapperOptions,
  PolicyCallOptions,
  RequestOptions,
  SamplerOptions,
  WrapperSettings,
} from "./wrapper/options.ts";
export type { SampleInfo } from "./wrapper/outputs.ts";
export type {
  DefaultOutput,
  OnlyOptions,
  OutputInModes,
  OutputKey,
  OutputLogProbs,
  OutputOptions,
  PolicyOutput,
  UnknownKeys,
} from "./wrapper/policy_output.ts";
export type { PromptRow, RowOutcome, TokenDrift } from "./wrapper/prompt_row.ts";
export {
  type AnySGLangWrapper,
  type EngineSource,
  SGLangWrapper,
} from "./wrapper/sglang_wrapper.ts";
