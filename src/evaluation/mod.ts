/**
 * Trying a policy on held-out tasks while it is trained: pass@k, mean rewards, by task.
 *
 * @module
 */
export {
  evaluate,
  type EvaluateOptions,
  type Evaluation,
  type EvaluationProgress,
  type TaskResult,
} from "./evaluate.ts";
export { passAtK } from "./pass_at_k.ts";
