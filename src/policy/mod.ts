/**
 * Rollout data for a trainer, and the wrapper that makes it from what servers answer: conversations,
 * texts, token ids, log-probabilities and masks.
 *
 * @module
 */
export { type BatchShape, flattenRows, type Nested, nestRows, rowCount } from "./batch_shape.ts";
export { type Columns, RowBatch } from "./row_batch.ts";
export { type Matrix, Padding, type PadLayout, type RowArray, type RowLengths } from "./padding.ts";
export { type PadOptions, Tokens, type TokensKey } from "./tokens.ts";
export { LogProbs, type LogProbsKey } from "./log_probs.ts";
export { masked, Masks, type MasksKey } from "./masks.ts";
export { Text, type TextKey } from "./text.ts";
export type { ReadAnswer, ToolCallFault } from "./answers/answer.ts";
export { type AnswerReader, readAnswer, type ReadAnswerOptions } from "./answers/read_answer.ts";
export {
  type AnswerServer,
  serverAnswerReader,
  type ServerAnswerReaderOptions,
} from "./answers/server_answer_reader.ts";
export { parseJson, PythonFloat, type TemplateLimits } from "./templates/jinja/mod.ts";
export type { ContentPart, Message, OpenAIToolCall, ToolCall } from "./message.ts";
export { type ChangeOptions, type ChatTemplateOptions, History } from "./history.ts";
export { ChatHistory, type ChatHistoryParts } from "./chat_history.ts";
export {
  addChatTemplate,
  chatTemplateNames,
  chooseTemplate,
  type ChosenTemplate,
  type CustomTemplate,
  type TemplateChoice,
} from "./templates/registry.ts";
export type { Span } from "./templates/spans.ts";
export {
  type DecodeOptions,
  type EncodeOptions,
  padIdOf,
  type SpecialTokens,
  type Tokenizer,
} from "./tokenizer.ts";
export { LocalTokenizer, type TokenizerFiles } from "./local_tokenizer.ts";
export {
  chatToText,
  chatToTokens,
  type ConversionOptions,
  extractResponses,
  historyToTokens,
  textToHistory,
  textToTokens,
  type TokenizedHistory,
  tokensToHistory,
  tokensToText,
} from "./conversions.ts";
export {
  type BatchingState,
  LLMWrapperBase,
  type PolicyCallOptions,
  type PolicyOutput,
  type RowOutcome,
  type SamplerOptions,
} from "./wrapper/base.ts";
export type { Ids, InputParts, PolicyInput } from "./wrapper/inputs.ts";
export type {
  DriftAction,
  InputMode,
  LLMWrapperOptions,
  RequestOptions,
  WrapperSettings,
} from "./wrapper/options.ts";
export type { SampleInfo } from "./wrapper/outputs.ts";
export type { PromptRow, TokenDrift } from "./wrapper/prompt_row.ts";
export {
  type MarkedText,
  TemplateChatModel,
  type TemplateChatModelOptions,
} from "./wrapper/chat_model.ts";
export { EngineTokenizer } from "./wrapper/engine_tokenizer.ts";
export { type EngineSource, SGLangWrapper } from "./wrapper/sglang_wrapper.ts";
export type { FollowingMessages } from "./wrapper/next_input.ts";
