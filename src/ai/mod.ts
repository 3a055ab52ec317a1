/**
 * A language model for the Vercel AI SDK (`ai`) on a recording gateway in this process: agents ask
 * without a connection, and each answer has its ids and log-probabilities in `providerMetadata`.
 * Needs `npm:@ai-sdk/provider`, which `ai` brings.
 *
 * @module
 */
export {
  languageModel,
  type LanguageModelOptions,
  type LanguageModelSource,
} from "./language_model.ts";
