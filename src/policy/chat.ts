/**
 * Conversations as text and as ids: messages, chat templates, the way from one form into another,
 * and what an answer says.
 *
 * @module
 */
export type { ToolCallFormat } from "./answers/call_format.ts";
export { toolCallFormats } from "./answers/formats.ts";
export { type AnswerReader, readAnswer, type ReadAnswerOptions } from "./answers/read_answer.ts";
export type { ReadAnswer, ToolCallFault } from "./answers/answer.ts";
export {
  type AnswerServer,
  serverAnswerReader,
  type ServerAnswerReaderOptions,
} from "./answers/server_answer_reader.ts";
export type { TokenizerLimits } from "./local_tokenizer.ts";
export { ChatHistory, type ChatHistoryParts } from "./chat_history.ts";
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
export { type ChangeOptions, type ChatTemplateOptions, History } from "./history.ts";
export type { ContentPart, Message, OpenAIToolCall, ToolCall } from "./message.ts";
export { parseJson, PythonFloat, type TemplateLimits } from "./templates/jinja/mod.ts";
export {
  addChatTemplate,
  chatTemplateNames,
  chooseTemplate,
  type ChosenTemplate,
  type CustomTemplate,
  type TemplateChoice,
} from "./templates/registry.ts";
export type { Span } from "./templates/spans.ts";
