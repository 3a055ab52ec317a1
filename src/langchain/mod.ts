/**
 * A chat model for LangChain.js on a recording gateway in this process: agents ask without a
 * connection, and each answer has its ids and log-probabilities in `response_metadata`. Needs
 * `npm:@langchain/core`.
 *
 * @module
 */
export {
  RecordedChatModel,
  type RecordedChatModelCallOptions,
  type RecordedChatModelOptions,
} from "./chat_model.ts";
