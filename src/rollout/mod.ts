/**
 * Turns of conversations as what was sampled: the ids that were sent, the ids that came back, and how
 * the next turn's ids follow from them. The wrapper, the collector and anything that records an agent
 * are made of it.
 *
 * @module
 */
export {
  type ChatModel,
  type ReadOptions,
  type RenderedPrompt,
  type Sampler,
  type SignalOptions,
} from "./chat_model.ts";
export { endTokenOf, type KnownSample, type Sample, sampleOf } from "./sample.ts";
export {
  assistantMaskOf,
  type BranchPoint,
  endTurn,
  logProbsOf,
  nextTurn,
  type PrepareOptions,
  prepareTurn,
  type PromptKind,
  type Sampled,
  sampleTurn,
  type Turn,
  turnIds,
  type TurnPrompt,
  turnsWithin,
} from "./turn.ts";
export { rowsOfTurns, type TreeRow, TurnTree } from "./tree.ts";
export { goesOn, type JoinedRow, joinTurns, type SampledTurn } from "./rows.ts";
export { messageKey, startsWith } from "./message_key.ts";
export { PiecewiseTokenizer } from "./piecewise_tokenizer.ts";
export { areSame, beginsWith, firstDifference } from "./ids.ts";
